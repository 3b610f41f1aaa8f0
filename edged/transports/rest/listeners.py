"""The sockets that HTTP is served on: bound here, with their rights, and taken away again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edged import listening
from edged.config.schema import Sockets
from edged.oip.listeners import Listener, listeners, opened, tls_of
from edged.oip.rights import Rights


def bind(sockets: Sockets) -> list[Listener]:
    """Opens every socket of the configuration, or none: EdgedError `no_listener` says which and why."""
    return opened(_each(sockets))


def _each(sockets: Sockets) -> Iterator[Listener]:
    tls = tls_of(sockets, "http/1.1")
    if sockets.unix:
        yield Listener(listening.unix(Path(sockets.unix)), Rights(admin_token=sockets.admin_token))
    yield from listeners(sockets, "http", tls)
    metrics = Rights(metrics_only=True)
    for address in sockets.metrics:
        if address.startswith("unix:"):
            yield Listener(listening.unix(Path(address.removeprefix("unix:")), "sockets.metrics"), metrics)
        else:
            bound = listening.tcp(address, safe=tls is not None)
            # For this box alone they go without TLS, whatever others need: there is nothing to protect from it.
            yield Listener(bound, metrics, None if bound.loopback else tls)
