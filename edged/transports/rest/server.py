"""The HTTP transport as one part: listeners in, connections served, a drain with a deadline."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

from edged.oip.backend import Backend
from edged.oip.bodies import Room
from edged.oip.doors import Doors
from edged.oip.gate import Gate
from edged.oip.listeners import Listener
from edged.transports.rest.app import App
from edged.transports.rest.connection import Connection
from edged.transports.rest.limits import Limits


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
        self._doors = doors = Doors(Connection)
        doors.gates = [
            Gate(one, limits, self._app, room=room, count=count, emptied=doors.look, clock=clock) for one in listeners
        ]

    def adopt(self) -> None:
        """The models are others, or their limits are: from the next request on."""
        self._app.adopt()
        self._room.size = max(self._limits.bodies, self._app.largest_body())

    async def start(self) -> None:
        """Returns when every listener accepts requests."""
        await self._doors.open()

    async def stop(self, deadline_s: float) -> None:
        """Closes the listeners, waits for the requests under way, and answers `stopping` to what is left."""
        self._app.stopping = True
        await self._doors.close(deadline_s)
        self._app.cancel()
