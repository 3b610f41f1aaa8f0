"""HTTP/2's frames (RFC 9113, 4 to 7): nine bytes in front, kinds, flags, and what ends a connection. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD: Final = struct.Struct(">HBBBI")  # length (24 bits, as two numbers), kind, flags, stream
HEAD_BYTES: Final = HEAD.size

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20

NO_ERROR, PROTOCOL, INTERNAL, FLOW_CONTROL, _, STREAM_CLOSED, FRAME_SIZE, REFUSED, CANCEL, COMPRESSION = range(10)
CALM: Final = 11  # ENHANCE_YOUR_CALM

_, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME = range(1, 6)
FIRST_WINDOW: Final = 65535  # of a connection, and of a stream until a setting says otherwise
FIRST_FRAME: Final = 16384  # the largest frame that everybody takes
LARGEST_WINDOW: Final = 2**31 - 1
_LARGEST_FRAME: Final = 2**24 - 1
_SETTING: Final = struct.Struct(">HI")
_NUMBER: Final = struct.Struct(">I")


class Broken(Exception):
    """The client does what the protocol forbids: the connection is over. `code` is what it is told."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def head(size: int, kind: int, flags: int, stream: int) -> bytes:
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return head(len(payload), kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values.items()))


def window(stream: int, more: int) -> bytes:
    return frame(WINDOW, 0, stream, _NUMBER.pack(more))


def reset(stream: int, code: int) -> bytes:
    return frame(RESET, 0, stream, _NUMBER.pack(code))


def goaway(last: int, code: int, why: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _NUMBER.pack(last) + _NUMBER.pack(code) + why.encode()[:256])


def number(payload: bytes) -> int:
    """The 31 bits of a WINDOW_UPDATE. Raises Broken."""
    if len(payload) != _NUMBER.size:
        raise Broken(FRAME_SIZE, "a frame of four bytes has another size")
    found: int = _NUMBER.unpack(payload)[0]
    return found & 0x7FFFFFFF


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Raises Broken for values out of bounds (6.5.2)."""
    if len(payload) % _SETTING.size:
        raise Broken(FRAME_SIZE, "settings are six bytes each")
    # Of those with one name the last holds, and is the only one that costs what applying it does.
    for name, value in dict(_SETTING.iter_unpack(payload)).items():
        if name == INITIAL_WINDOW and value > LARGEST_WINDOW:
            raise Broken(FLOW_CONTROL, "a window above 2^31 - 1")
        if (name == MAX_FRAME and not FIRST_FRAME <= value <= _LARGEST_FRAME) or (name == ENABLE_PUSH and value > 1):
            raise Broken(PROTOCOL, "a setting out of its bounds")
        yield name, value


def unpadded(flags: int, payload: bytes) -> bytes:
    """What HEADERS carry between their paddings and priorities. Raises Broken."""
    start = (1 if flags & PADDED else 0) + (5 if flags & PRIORITIZED else 0)
    end = len(payload) - (payload[0] if flags & PADDED and payload else 0)
    if start > end:
        raise Broken(PROTOCOL, "more padding than frame")
    return payload[start:end]
