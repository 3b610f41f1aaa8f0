"""A transport as one part: listeners in, connections served, a drain with a deadline."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, Protocol, TypeVar

from edged.errors import Fault, fault
from edged.oip.backend import Backend
from edged.oip.bodies import Room
from edged.oip.gate import Bounds, Gate, Served
from edged.oip.greeter import Greeter
from edged.oip.listeners import Listener

_GRACE_S: Final = 0.5  # for the answers that the drain's end sends


class Leaving(Served, Protocol):
    """A connection that can be ended in two ways."""

    def leave(self) -> None:
        """Takes no further request; ends when what is owed is answered."""

    def give_up(self, problem: Fault) -> None:
        """Answers everything that is owed or under way with `problem`."""


class Application(Protocol):
    """What answers the requests of a transport; each has more, which its connections know."""

    @property
    def room(self) -> Room:
        """The memory that half-received requests share."""

    def adopt(self) -> None:
        """The models are others, or their limits are: from the next request on."""

    def cancel(self) -> None:
        """Ends what is under way besides the models."""


One = TypeVar("One", bound=Leaving)
Limit = TypeVar("Limit", bound=Bounds)


class Doors(Generic[One]):
    """Serves `application` on `listeners`, which it closes when it stops. `serve` makes a connection at a gate."""

    def __init__(
        self,
        listeners: Iterable[Listener],
        application: Application,
        backend: Backend,
        limits: Bounds,
        serve: Callable[[Gate[Any, Any, One]], asyncio.BaseProtocol],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._application = application
        self._serve = serve
        count = functools.partial(backend.refused, "")
        self.gates: Final[list[Gate[Any, Any, One]]] = [
            Gate(one, limits, application, room=application.room, count=count, emptied=self.look, clock=clock)
            for one in listeners
        ]
        self._servers: list[asyncio.Server | Greeter] = []
        self._empty = asyncio.Event()

    def adopt(self) -> None:
        """The models are others, or their limits are: from the next request on."""
        self._application.adopt()

    async def start(self) -> None:
        """Returns when every listener accepts connections."""
        loop = asyncio.get_running_loop()
        for gate in self.gates:
            connection = functools.partial(self._serve, gate)
            if gate.listener.tls is not None:
                self._servers.append(Greeter(gate, gate.listener.tls, connection))
                continue
            create = loop.create_unix_server if gate.listener.local else loop.create_server
            self._servers.append(await create(connection, sock=gate.listener.socket, backlog=128))

    async def stop(self, deadline_s: float) -> None:
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
        self._application.cancel()

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


class Kind(Generic[Limit, One]):
    """A transport that is served by Doors: what answers its requests, what a client's connection is, and its bounds."""

    def __init__(
        self,
        application: Callable[[Backend, Limit, Callable[[], float]], Application],
        serve: Callable[[Gate[Any, Any, One]], asyncio.BaseProtocol],
        limits: Callable[[], Limit],
    ) -> None:
        self._application: Final = application
        self._serve: Final = serve
        self._limits: Final = limits

    def __call__(
        self,
        listeners: Iterable[Listener],
        backend: Backend,
        *,
        limits: Limit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Doors[One]:
        """What serves it on `listeners`, once it is started; `limits` are those of users when none are given."""
        limits = limits or self._limits()
        application = self._application(backend, limits, clock)
        return Doors(listeners, application, backend, limits, self._serve, clock=clock)
