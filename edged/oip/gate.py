"""One listener's connections: how many there are, what they share, and the clock that hurries them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from edged.errors import Fault, fault
from edged.oip.bodies import Room
from edged.oip.listeners import Listener
from edged.taking import Taking

_SCRATCH: Final = 64 * 1024  # bytes of one read that goes to no body; a turn of the loop uses it for one connection
_TOLD: Final = 64  # connections above the limit that are told so; further ones are only closed


class Served(Protocol):
    """A connection."""

    @property
    def taking(self) -> Taking:
        """What its client takes of its answers, as of the last sweep."""

    def sweep(self, now_s: float) -> None:
        """Ends what took too long by `now_s`."""

    def abort(self) -> None: ...


class Bounds(Protocol):
    """What a transport lets its clients take; its own Limits has more."""

    @property
    def connections(self) -> int:
        """How many there may be on a listener."""

    @property
    def header_s(self) -> float:
        """How long a handshake may take, as a header may."""

    @property
    def sweep_s(self) -> float:
        """How often the clock is looked at."""


App = TypeVar("App")
Limit = TypeVar("Limit", bound=Bounds)
One = TypeVar("One", bound=Served)


class Gate(Generic[App, Limit, One]):
    """`application` answers what comes in. `room` is shared by all listeners. `count` is told the code of what is
    refused before the application has it, and `client_gone` when a client did not wait for its answer. `emptied` is
    called when the last connection has ended.
    """

    def __init__(
        self,
        listener: Listener,
        limits: Limit,
        application: App,
        *,
        room: Room,
        count: Callable[[str], None],
        emptied: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.listener = listener
        self.limits = limits
        self.application = application
        self.room = room
        self.count = count
        self.connections: set[One] = set()
        self.buffer = bytearray(_SCRATCH)
        self.scratch = memoryview(self.buffer)
        self._emptied = emptied
        self.clock = clock
        self._sweep: asyncio.TimerHandle | None = None
        self.greeting = 0  # clients that are still in their TLS handshake

    @property
    def open(self) -> int:
        return len(self.connections) + self.greeting

    def enter(self, connection: One) -> Fault | None:
        """One connection more; a Fault when it is one too many."""
        self.connections.add(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self.limits.sweep_s, self._swept)
        if len(self.connections) <= self.limits.connections:
            return None
        what = f"{self.listener.address} has {self.limits.connections} connections already"
        return fault("queue_full", what, "Close idle connections, or send more requests on each.")

    @property
    def crowded(self) -> bool:
        """So far above the limit that nobody is told why."""
        return self.open > self.limits.connections + _TOLD

    def leave(self, connection: One) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._emptied()

    def _swept(self) -> None:
        """Looks at the time for all connections at once: a timer for each request would cost more than its parsing."""
        self._sweep = None
        now_s = self.clock()
        for connection in tuple(self.connections):
            connection.sweep(now_s)
        self._let_go()
        if self.connections:  # an idle box is left asleep
            self._sweep = asyncio.get_running_loop().call_later(self.limits.sweep_s, self._swept)

    def _let_go(self) -> None:
        """Cuts clients that do not take their answers while those take too much room: the largest first."""
        slow = sorted((one for one in self.connections if one.taking.untaken), key=lambda one: one.taking.untaken)
        total = sum(one.taking.untaken for one in slow)
        while total > self.room.size:
            connection = slow.pop()
            total -= connection.taking.untaken
            self.count("timeout")
            connection.abort()
