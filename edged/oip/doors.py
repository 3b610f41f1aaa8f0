"""The listeners of a transport while they are served: connections in, and at the end a drain with a deadline."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from edged.errors import Fault, fault
from edged.oip.gate import Gate, Served
from edged.oip.greeter import Greeter

_GRACE_S: Final = 0.5  # for the answers that the drain's end sends


class Leaving(Served, Protocol):
    """A connection that can be ended in two ways."""

    def leave(self) -> None:
        """Takes no further request; ends when what is owed is answered."""

    def give_up(self, problem: Fault) -> None:
        """Answers everything that is owed or under way with `problem`."""


One = TypeVar("One", bound=Leaving)


class Doors(Generic[One]):
    """Takes connections at `gates`, whose listeners it closes when it stops. `serve` makes one at a gate."""

    def __init__(self, serve: Callable[[Gate[Any, Any, One]], asyncio.BaseProtocol]) -> None:
        self._serve = serve
        self.gates: Sequence[Gate[Any, Any, One]] = ()
        self._servers: list[asyncio.Server | Greeter] = []
        self._empty = asyncio.Event()

    async def open(self) -> None:
        """Returns when every listener accepts connections."""
        loop = asyncio.get_running_loop()
        for gate in self.gates:
            connection = functools.partial(self._serve, gate)
            if gate.listener.tls is not None:
                self._servers.append(Greeter(gate, gate.listener.tls, connection))
                continue
            create = loop.create_unix_server if gate.listener.local else loop.create_server
            self._servers.append(await create(connection, sock=gate.listener.socket, backlog=128))

    async def close(self, deadline_s: float) -> None:
        """Closes the listeners, waits for the requests under way, and answers `stopping` to what is left."""
        for gate in self.gates:
            gate.listener.remove()
        for server in self._servers:
            server.close()
        self._servers.clear()
        for gate in self.gates:
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

    def look(self) -> None:
        """A gate says that its last connection has ended."""
        if not any(gate.connections for gate in self.gates):
            self._empty.set()

    def _connections(self) -> list[One]:
        return [connection for gate in self.gates for connection in gate.connections]

    async def _emptied(self, within_s: float) -> bool:
        """Whether the last connection has ended within so many seconds."""
        self._empty.clear()
        self.look()
        try:
            await asyncio.wait_for(self._empty.wait(), within_s)
        except TimeoutError:
            return False
        return True
