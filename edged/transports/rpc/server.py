"""The gRPC transport as one part, and its listeners."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from edged.config.schema import Sockets
from edged.oip.backend import Backend
from edged.oip.doors import Doors
from edged.oip.listeners import Listener, listeners, opened, tls_of
from edged.transports.rpc.app import App
from edged.transports.rpc.connection import Connection
from edged.transports.rpc.limits import Limits


def bind(sockets: Sockets) -> list[Listener]:
    """Opens every address of `sockets.grpc`, or none: EdgedError `no_listener` says which and why."""
    return opened(listeners(sockets, "grpc", tls_of(sockets, "h2")))


def rpc(
    found: Sequence[Listener],
    backend: Backend,
    *,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Doors[Connection]:
    """What serves the Open Inference Protocol over gRPC on `found`, once it is started."""
    limits = limits or Limits()
    return Doors(found, App(backend, limits, clock), backend, limits, Connection, clock=clock)
