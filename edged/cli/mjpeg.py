"""Motion JPEG: the pictures of a stream, as ffmpeg and network cameras write it, one file behind the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from edged.errors import EdgedError

START: Final = b"\xff\xd8\xff"
BOUNDARY: Final = b"--"  # what a camera's multipart answer begins with
_LARGEST: Final = 64 * 2**20
_BEGIN, _END, _SCAN = 0xD8, 0xD9, 0xDA
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment behind them (ITU-T T.81, table B.1)
# In a scan a byte ff of data is followed by 00, and restart markers are part of it (T.81, B.1.1.5).
_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")


def pictures(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Each whole picture as soon as its end has come; what is between two (a multipart header) is left out.

    A damaged or unfinished picture is handed on as far as it goes: whoever decodes it says so. Raises EdgedError
    bad_input where one has no end within 64 MiB.
    """
    buffer = bytearray()
    at = -1  # how far the picture at the buffer's start has been followed; -1: none has begun
    scanning = False
    for chunk in chunks:
        buffer += chunk
        while True:
            if at < 0:
                begin = buffer.find(START)
                del buffer[: begin if begin >= 0 else max(0, len(buffer) - len(START) + 1)]
                if begin < 0:
                    break
                at, scanning = 2, False
            at, scanning, whole = _follow(buffer, at, scanning=scanning)
            if not whole:
                break
            yield bytes(buffer[:at])
            del buffer[:at]
            at = -1
        if len(buffer) > _LARGEST:
            raise EdgedError("bad_input", f"a picture of the stream does not end within {_LARGEST} bytes")
    if at >= 0:
        yield bytes(buffer)


def _follow(buffer: bytearray, at: int, *, scanning: bool) -> tuple[int, bool, bool]:
    """How far the picture can be followed, whether that is inside a scan, and whether it is there as a whole."""
    while True:
        if scanning:
            found = _AFTER_SCAN.search(buffer, at)
            if found is None:
                return max(at, len(buffer) - 1), True, False
            at, scanning = found.start(), False
        if len(buffer) < at + 2:
            return at, False, False
        mark = buffer[at + 1]
        if buffer[at] != 0xFF or mark == _BEGIN:  # damaged, or not finished before the next one
            return at, False, True
        if mark == _END:
            return at + 2, False, True
        if mark == 0xFF:  # a byte to fill up
            at += 1
        elif mark in _ALONE:
            at += 2
        elif len(buffer) < at + 4:
            return at, False, False
        else:
            at += 2 + max(2, int.from_bytes(buffer[at + 2 : at + 4], "big"))
            scanning = mark == _SCAN
