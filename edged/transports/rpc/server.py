"""The gRPC transport as one part, and its listeners."""

from __future__ import annotations

from typing import Final

from edged.config.schema import Sockets
from edged.oip.doors import Kind
from edged.oip.listeners import Listener, listeners, opened, tls_of
from edged.transports.rpc.app import App
from edged.transports.rpc.connection import Connection
from edged.transports.rpc.limits import Limits


def bind(sockets: Sockets) -> list[Listener]:
    """Opens every address of `sockets.grpc`, or none: EdgedError `no_listener` says which and why."""
    return opened(listeners(sockets, "grpc", tls_of(sockets, "h2")))


rpc: Final = Kind(App, Connection, Limits)
