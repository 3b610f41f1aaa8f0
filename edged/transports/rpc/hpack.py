"""HPACK (RFC 7541): a block of bytes to a list of headers, and the few headers that edged sends to bytes. Pure."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Final

from edged.transports.rpc import huffman

Header = tuple[bytes, bytes]

TABLE_BYTES: Final = 4096  # what RFC 7540 gives a decoder that says nothing else
_OVERHEAD: Final = 32  # what an entry counts beside its name and its value (4.1)
_STATIC: Final[tuple[Header, ...]] = (
    *((b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/")),
    *((b":path", b"/index.html"), (b":scheme", b"http"), (b":scheme", b"https")),
    *((b":status", code) for code in (b"200", b"204", b"206", b"304", b"400", b"404", b"500")),
    *((b"accept-charset", b""), (b"accept-encoding", b"gzip, deflate")),
    *((name, b"") for name in b"accept-language accept-ranges accept access-control-allow-origin age allow".split()),
    *((name, b"") for name in b"authorization cache-control content-disposition content-encoding".split()),
    *((name, b"") for name in b"content-language content-length content-location content-range content-type".split()),
    *((name, b"") for name in b"cookie date etag expect expires from host if-match if-modified-since".split()),
    *((name, b"") for name in b"if-none-match if-range if-unmodified-since last-modified link location".split()),
    *((name, b"") for name in b"max-forwards proxy-authenticate proxy-authorization range referer refresh".split()),
    *((name, b"") for name in b"retry-after server set-cookie strict-transport-security transfer-encoding".split()),
    *((name, b"") for name in b"user-agent vary via www-authenticate".split()),
)
_RESIZES: Final = 2  # at the start of a block; more than the smallest size in between and the last mean nothing (4.2)
_LARGEST: Final = 2**28  # of an integer; nothing that a block may say needs more


class Decoder:
    """One connection's table. `version` changes whenever the table does: until then the same block means the same."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of a list of headers, counted as the table counts them: a block may unfold to no more."""
        self.version = 0
        self._limit = limit
        self._table: collections.deque[Header] = collections.deque()  # newest first
        self._used = 0
        self._room = TABLE_BYTES

    def decode(self, block: bytes) -> list[Header]:
        """Raises ValueError and IndexError for what is no such block; the connection cannot go on then."""
        headers: list[Header] = []
        at = size = resizes = 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 7)
                header = self._entry(index)
            elif first & 0xE0 == 0x20:
                room, at = _integer(block, at, 5)
                resizes += 1
                if headers or resizes > _RESIZES or room > TABLE_BYTES:
                    raise ValueError("a table may be resized twice before the first header, to what it was allowed")
                self._resize(room)
                continue
            else:
                kept = first & 0x40
                index, at = _integer(block, at, 6 if kept else 4)
                name, at = (self._entry(index)[0], at) if index else _string(block, at)
                value, at = _string(block, at)
                header = name, value
                if kept:
                    self._keep(header)
            size += _OVERHEAD + len(header[0]) + len(header[1])
            if size > self._limit:
                raise ValueError(f"headers above {self._limit} bytes")
            headers.append(header)
        return headers

    def _entry(self, index: int) -> Header:
        if not index:
            raise ValueError("there is no header 0")
        return _STATIC[index - 1] if index <= len(_STATIC) else self._table[index - len(_STATIC) - 1]

    def _keep(self, header: Header) -> None:
        self.version += 1
        self._table.appendleft(header)
        self._used += _OVERHEAD + len(header[0]) + len(header[1])
        self._evict()

    def _resize(self, room: int) -> None:
        self.version += 1
        self._room = room
        self._evict()

    def _evict(self) -> None:
        while self._used > self._room:
            name, value = self._table.pop()
            self._used -= _OVERHEAD + len(name) + len(value)


def encode(headers: Iterable[Header]) -> bytes:
    """A block that neither needs a table nor changes one: the same bytes on each connection, at any time."""
    return b"".join(_encoded(name, value) for name, value in headers)


def _encoded(name: bytes, value: bytes) -> bytes:
    if (name, value) in _STATIC:
        return bytes((0x80 | _STATIC.index((name, value)) + 1,))
    return b"".join((b"\0", _prefixed(len(name)), name, _prefixed(len(value)), value))


def _prefixed(number: int) -> bytes:
    """An integer of seven bits and what follows; the eighth says: not Huffman's."""
    if number < 0x7F:
        return bytes((number,))
    number -= 0x7F
    found = bytearray((0x7F,))
    while number >= 0x80:
        found.append(0x80 | number & 0x7F)
        number >>= 7
    found.append(number)
    return bytes(found)


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """The number whose first `bits` bits end the byte at `at`, and where it ends."""
    mask = (1 << bits) - 1
    number, at = block[at] & mask, at + 1
    if number < mask:
        return number, at
    for shift in range(0, 28, 7):
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        raise ValueError("an integer of more than four bytes")
    if number > _LARGEST:
        raise ValueError("an integer beyond all bounds")
    return number, at


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    coded = block[at] & 0x80
    size, at = _integer(block, at, 7)
    if size > len(block) - at:
        raise ValueError("a string that ends after its block")
    data = block[at : at + size]
    return huffman.decode(data) if coded else data, at + size
