"""The HTTP transport as one part."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from edged.oip.backend import Backend
from edged.oip.doors import Doors
from edged.oip.listeners import Listener
from edged.transports.rest.app import App
from edged.transports.rest.connection import Connection
from edged.transports.rest.limits import Limits


def rest(
    listeners: Sequence[Listener],
    backend: Backend,
    *,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Doors[Connection]:
    """What serves the Open Inference Protocol over HTTP on `listeners`, once it is started."""
    limits = limits or Limits()
    return Doors(listeners, App(backend, limits, clock), backend, limits, Connection, clock=clock)
