"""The sockets of the fast lane: bound here, with their rights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edged import listening
from edged.oip.listeners import Listener, opened


def bind(places: Sequence[str]) -> list[Listener]:
    """Opens every address of `sockets.fast`, or none: EdgedError `no_listener` says which and why.

    Whoever may open a UNIX socket has shown who it is; TCP is for this box alone: frames have neither token nor TLS.
    """
    return opened(_each(places))


def _each(places: Sequence[str]) -> Iterator[Listener]:
    for address in places:
        path = address.removeprefix("unix:")
        if path[:1] == "/":
            yield Listener(listening.unix(Path(path), "sockets.fast", descriptors=True))  # of clients' rings
        else:
            yield Listener(listening.tcp(address, safe=False))
