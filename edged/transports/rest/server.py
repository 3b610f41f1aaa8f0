"""The HTTP transport as one part: listeners in, connections served, a drain with a deadline."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from typing import Final

from edged.errors import fault
from edged.oip.backend import Backend
from edged.transports.rest.app import App
from edged.transports.rest.connection import Connection
from edged.transports.rest.gate import Gate
from edged.transports.rest.greeter import Greeter
from edged.transports.rest.limits import Limits, Room
from edged.transports.rest.listeners import Listener

_GRACE_S: Final = 0.5  # for the answers that the drain's end sends


class Rest:
    """Serves the Open Inference Protocol on `listeners`, which it closes when it stops."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        backend: Backend,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits = limits or Limits()
        self._app = App(backend, limits, clock)
        self._room = room = Room(max(limits.bodies, self._app.largest_body()))
        count = functools.partial(backend.refused, "")
        self._gates = [
            Gate(one, limits, self._app, room=room, count=count, emptied=self._look, clock=clock) for one in listeners
        ]
        self._servers: list[asyncio.Server | Greeter] = []
        self._empty = asyncio.Event()

    def adopt(self) -> None:
        """The models are others, or their limits are: from the next request on."""
        self._app.adopt()
        self._room.size = max(self._limits.bodies, self._app.largest_body())

    async def start(self) -> None:
        """Returns when every listener accepts requests."""
        loop = asyncio.get_running_loop()
        for gate in self._gates:
            if gate.listener.tls is not None:
                self._servers.append(Greeter(gate, gate.listener.tls))
                continue
            create = loop.create_unix_server if gate.listener.local else loop.create_server
            connection = functools.partial(Connection, gate)
            self._servers.append(await create(connection, sock=gate.listener.socket, backlog=128))

    async def stop(self, deadline_s: float) -> None:
        """Closes the listeners, waits for the requests under way, and answers `stopping` to what is left."""
        self._app.stopping = True
        for gate in self._gates:
            gate.listener.remove()
        for server in self._servers:
            server.close()
        self._servers.clear()
        for gate in self._gates:
            gate.listener.socket.close()
        for connection in self._connections():
            connection.leave()
        if not await self._emptied(deadline_s):
            for connection in self._connections():
                connection.give_up(fault("stopping", "the daemon stopped before the answer"))
            await self._emptied(_GRACE_S)
            for connection in self._connections():
                connection.abort()
            await self._emptied(_GRACE_S)
        self._app.cancel()

    def _connections(self) -> list[Connection]:
        return [connection for gate in self._gates for connection in gate.connections]

    def _look(self) -> None:
        if not any(gate.connections for gate in self._gates):
            self._empty.set()

    async def _emptied(self, within_s: float) -> bool:
        """Whether the last connection has ended within so many seconds."""
        self._empty.clear()
        self._look()
        try:
            await asyncio.wait_for(self._empty.wait(), within_s)
        except TimeoutError:
            return False
        return True
