"""The fast lane as one part: listeners in, connections served, a drain with a deadline."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

from edged.oip.backend import Backend
from edged.oip.doors import Doors
from edged.oip.gate import Gate
from edged.oip.listeners import Listener
from edged.transports.fast.connection import Connection
from edged.transports.fast.limits import Limits
from edged.transports.fast.requests import App


class Fast:
    """Serves docs/fast.md on `listeners`, which it closes when it stops."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        backend: Backend,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = limits or Limits()
        self._app = app = App(backend, limits, clock)
        self._doors = doors = Doors(Connection)
        count = functools.partial(backend.refused, "")
        doors.gates = [
            Gate(one, limits, app, room=app.room, count=count, emptied=doors.look, clock=clock) for one in listeners
        ]

    def adopt(self) -> None:
        """The models are others, or their limits are: from the next request on."""
        self._app.adopt()

    async def start(self) -> None:
        """Returns when every listener accepts clients."""
        await self._doors.open()

    async def stop(self, deadline_s: float) -> None:
        """Closes the listeners, waits for the requests under way, and answers `stopping` to what is left."""
        await self._doors.close(deadline_s)
