"""The sockets that HTTP is served on: bound here, with their rights, and taken away again."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edged import listening
from edged.config.certificates import server_context
from edged.config.schema import Sockets
from edged.errors import EdgedError
from edged.listening import Bound
from edged.transports.rest.rights import Rights


class Listener(msgspec.Struct, frozen=True, eq=False):
    """An open socket, what it serves and to whom."""

    bound: Bound
    rights: Rights = Rights()
    tls: ssl.SSLContext | None = None

    @property
    def socket(self) -> socket.socket:
        return self.bound.socket

    @property
    def address(self) -> str:
        return self.bound.address

    @property
    def local(self) -> bool:
        return self.bound.local

    def close(self) -> None:
        """Removes the socket's file and closes the socket."""
        self.bound.close()

    def remove(self) -> None:
        """Takes the socket's file away, so that nobody new connects."""
        self.bound.remove()


def bind(sockets: Sockets) -> list[Listener]:
    """Opens every socket of the configuration, or none: EdgedError `no_listener` says which and why."""
    listeners: list[Listener] = []
    try:
        listeners.extend(_each(sockets))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _each(sockets: Sockets) -> Iterator[Listener]:
    """TLS and the token hold for every TCP address of `http`; whoever may open a UNIX socket has shown who it is."""
    tls = _tls(sockets)
    metrics = Rights(metrics_only=True)
    for address in ([f"unix:{sockets.unix}"] if sockets.unix else []) + list(sockets.http):
        if address.startswith("unix:"):
            rights = Rights(admin_token=sockets.admin_token)
            yield Listener(listening.unix(Path(address.removeprefix("unix:"))), rights)
        else:
            bound = listening.tcp(address, safe=bool(tls and sockets.token))
            yield Listener(bound, Rights(sockets.token, sockets.admin_token), tls)
    for address in sockets.metrics:
        if address.startswith("unix:"):
            yield Listener(listening.unix(Path(address.removeprefix("unix:")), "sockets.metrics"), metrics)
        else:
            bound = listening.tcp(address, safe=tls is not None)
            # For this box alone they go without TLS, whatever others need: there is nothing to protect from it.
            yield Listener(bound, metrics, None if bound.loopback else tls)


def _tls(sockets: Sockets) -> ssl.SSLContext | None:
    if not sockets.tls.cert:
        return None
    try:
        return server_context(sockets.tls.cert, sockets.tls.key, sockets.tls.client_ca)
    except ValueError as error:  # it was right when the configuration was read
        raise EdgedError("no_listener", f"sockets.tls: {error}", "`edged check` says more.") from error
