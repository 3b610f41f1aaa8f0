"""Open sockets with the rules that hold for whoever comes through them."""

from __future__ import annotations

import asyncio
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
from edged.oip.peers import peer_of
from edged.oip.rights import Rights


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

    def controller(self, token: bytes, transport: asyncio.Transport | None) -> str:
        """Who it is at the other end, for the audit; EdgedError `forbidden` for who may not control the box."""
        if transport is None:
            raise EdgedError("forbidden", "whoever asked for it has gone")
        if self.local:
            return self.rights.check_control(token, peer_of(transport.get_extra_info("socket")))
        return f"{self.rights.check_control(token, None)}, from {transport.get_extra_info('peername')[0]}"

    def close(self) -> None:
        """Removes the socket's file and closes the socket."""
        self.bound.close()

    def remove(self) -> None:
        """Takes the socket's file away, so that nobody new connects."""
        self.bound.remove()


def opened(found: Iterator[Listener]) -> list[Listener]:
    """All of them, or none: what was opened before an error is closed again."""
    listeners: list[Listener] = []
    try:
        listeners.extend(found)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def listeners(sockets: Sockets, key: str, tls: ssl.SSLContext | None) -> Iterator[Listener]:
    """The addresses of sockets.`key`, opened one by one: EdgedError `no_listener` says which cannot be, and why.

    TLS and the token hold for every TCP address; whoever may open a UNIX socket has shown who it is.
    """
    for address in getattr(sockets, key):
        if address.startswith("unix:"):
            bound = listening.unix(Path(address.removeprefix("unix:")), f"sockets.{key}")
            yield Listener(bound, Rights(admin_token=sockets.admin_token))
        else:
            bound = listening.tcp(address, safe=bool(tls and sockets.token))
            yield Listener(bound, Rights(sockets.token, sockets.admin_token), tls)


def tls_of(sockets: Sockets, protocol: str) -> ssl.SSLContext | None:
    """What `sockets.tls` comes to, for clients that speak `protocol` (ALPN); None without a certificate."""
    if not sockets.tls.cert:
        return None
    try:
        return server_context(sockets.tls.cert, sockets.tls.key, sockets.tls.client_ca, protocol)
    except ValueError as error:  # it was right when the configuration was read
        raise EdgedError("no_listener", f"sockets.tls: {error}", "`edged check` says more.") from error
