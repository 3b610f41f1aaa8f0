"""A call's headers as a value: what is called, by whom, and until when. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from edged.errors import Fault, fault
from edged.transports.rpc.frames import COMPRESSION, Broken
from edged.transports.rpc.hpack import Decoder, Header

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_ONCE: Final = frozenset({b":method", b":path", b":scheme", b":authority"})
_KEPT: Final = 64  # blocks that a connection remembers
_KEPT_BYTES: Final = 256  # of a block
CODINGS: Final = (b"gzip", b"deflate")  # of messages, beside none


class Head(msgspec.Struct, frozen=True):
    """`token` is the Bearer token, b"" for none; `timeout_s` None for a call without a deadline. `coding` is how
    messages are compressed that say they are, "" for not at all.

    `grpc` is False for a request that is none of gRPC's. `problem` is what keeps it from being served.
    """

    path: bytes
    token: bytes = b""
    timeout_s: float | None = None
    coding: str = ""
    grpc: bool = True
    problem: Fault | None = None


def read(headers: Iterable[Header]) -> Head:
    """Raises ValueError for headers that are no request's."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name[:1] == b":" and (name not in _ONCE or name in found):
            raise ValueError(f"the header {name[:32]!r}")
        found[name] = value
    if b":path" not in found or b":method" not in found:
        raise ValueError("no path, or no method")
    timeout = found.get(b"grpc-timeout")
    parts = None if timeout is None else _TIMEOUT.fullmatch(timeout)
    problem = None
    if timeout is not None and parts is None:
        problem = fault("bad_input", f"grpc-timeout is {timeout[:32].decode('latin-1')!r}", "Such as 500m, or 10S.")
    coding = found.get(b"grpc-encoding", b"identity")
    if coding not in (b"identity", *CODINGS):
        what = f"messages compressed as {coding[:32].decode('latin-1')!r} are not read"
        problem = fault("unsupported", what, "Compress with gzip or deflate, or not at all.")
    scheme, _, token = found.get(b"authorization", b"").partition(b" ")
    return Head(
        path=found[b":path"],
        token=token.strip() if scheme.lower() == b"bearer" else b"",
        timeout_s=int(parts[1]) * _UNITS_S[parts[2]] if parts else None,
        coding="" if coding == b"identity" else coding.decode("latin-1"),
        grpc=found[b":method"] == b"POST" and found.get(b"content-type", b"").startswith(b"application/grpc"),
        problem=problem,
    )


class Heads:
    """Reads one connection's blocks of headers. Most are the same as one before, and mean the same as long as the table
    that they refer to has not changed: those are not read again.
    """

    def __init__(self, limit: int) -> None:
        self._decoder = Decoder(limit)
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head | None:
        """None for headers that are no request's. Raises Broken."""
        head = self._known.get(block)
        if head is not None:
            return head
        before = self._decoder.version
        headers = self.decode(block)
        try:
            head = read(headers)
        except ValueError:
            return None
        # A block that has changed the table means something else the next time.
        if self._decoder.version == before and len(block) <= _KEPT_BYTES and len(self._known) < _KEPT:
            self._known[block] = head
        return head

    def decode(self, block: bytes) -> list[Header]:
        """Any headers, for the sake of the table. Raises Broken."""
        before = self._decoder.version
        try:
            headers = self._decoder.decode(block)
        except (ValueError, IndexError) as error:
            raise Broken(COMPRESSION, f"headers that cannot be read: {error}") from error
        if self._decoder.version != before:
            self._known.clear()
        return headers
