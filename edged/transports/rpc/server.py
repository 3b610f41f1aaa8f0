"""The gRPC transport as one part: listeners in, connections served, a drain with a deadline."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

from edged.config.schema import Sockets
from edged.oip.backend import Backend
from edged.oip.bodies import Room
from edged.oip.doors import Doors
from edged.oip.gate import Gate
from edged.oip.listeners import Listener, listeners, opened, tls_of
from edged.transports.rpc.app import App
from edged.transports.rpc.connection import Connection
from edged.transports.rpc.limits import Limits


def bind(sockets: Sockets) -> list[Listener]:
    """Opens every address of `sockets.grpc`, or none: EdgedError `no_listener` says which and why."""
    return opened(listeners(sockets, "grpc", tls_of(sockets, "h2")))


class Rpc:
    """Serves the Open Inference Protocol over gRPC on `found`, which it closes when it stops."""

    def __init__(
        self,
        found: Sequence[Listener],
        backend: Backend,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits = limits or Limits()
        self._app = App(backend, limits, clock)
        self._room = room = Room(max(limits.bodies, self._app.largest_message()))
        count = functools.partial(backend.refused, "")
        self._doors = doors = Doors(Connection)
        doors.gates = [
            Gate(one, limits, self._app, room=room, count=count, emptied=doors.look, clock=clock) for one in found
        ]

    def adopt(self) -> None:
        """The models are others, or their limits are: from the next call on."""
        self._app.adopt()
        self._room.size = max(self._limits.bodies, self._app.largest_message())

    async def start(self) -> None:
        """Returns when every listener accepts connections."""
        await self._doors.open()

    async def stop(self, deadline_s: float) -> None:
        """Closes the listeners, waits for the calls under way, and answers `stopping` to what is left."""
        self._app.stopping = True
        await self._doors.close(deadline_s)
        self._app.cancel()
