"""The chunked transfer coding of request bodies (RFC 9112, 7.1): bytes in, body out, no I/O."""

from __future__ import annotations

import io
import re
from typing import Final

from edged.errors import EdgedError
from edged.oip.bodies import Room

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SIZE_LINE: Final = re.compile(rb'([0-9A-Fa-f]{1,15})(?:;%b(?:=(?:%b|"[^"\\\r\n\0]*"))?)*' % (_TOKEN, _TOKEN))
_TRAILER: Final = re.compile(rb"(?:%b:[^\r\n\0]*)?" % _TOKEN)
_STEPS: Final = 256  # of one feed, three a chunk: a millisecond
_HINT: Final = "Send chunks as RFC 9112 has them, or a Content-Length."


class Chunks:
    """One chunked body on its way: at most `most` bytes, at most `around` bytes of framing between two pieces.

    What it holds is taken from `room`, and given back by `close`: one buffer, or a body in small chunks would hold
    many times what it counts. Extensions and trailers are read over.
    """

    __slots__ = ("_around", "_buffer", "_framing", "_left", "_most", "_next", "_room", "got")

    def __init__(self, most: int, around: int, room: Room) -> None:
        self._most = most
        self._around = around
        self._room = room
        self._buffer = io.BytesIO()  # gives out its bytes without a copy
        self._left = 0  # bytes of the chunk under way
        self._framing = 0  # bytes since the last piece of body
        self._next = self._size
        self.got = 0  # bytes of body so far

    @property
    def complete(self) -> bool:
        return self._next == self._end

    def feed(self, data: bytes) -> int:
        """Takes what it can use of `data`, and returns how many bytes that was; the rest is to come again.

        Of many small chunks it takes some, so that whoever feeds it may do something else between. Raises EdgedError
        `bad_input`, `too_large` or `queue_full`.
        """
        at = 0
        for _ in range(_STEPS):
            if self.complete or not (used := self._next(data, at)):
                break
            at += used
        else:
            return at
        if self._framing + (0 if self.complete else len(data) - at) > self._around:
            raise EdgedError("too_large", f"more than {self._around} bytes stand between two pieces of the body")
        return at

    def body(self) -> bytes:
        return self._buffer.getvalue()

    def close(self) -> None:
        self._room.give(self.got)
        self._buffer = io.BytesIO()
        self.got = 0

    # --- what comes next: each returns how many bytes it used, 0 when it needs more ------------------

    def _size(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at)
        if end < 0:
            return 0
        found = _SIZE_LINE.fullmatch(data, at, end)
        if found is None:
            shown = data[at : min(end, at + 32)].decode("latin-1")
            raise EdgedError("bad_input", f"{shown!r} is no size of a chunk", _HINT)
        self._left = int(found[1], 16)
        if self.got + self._left > self._most:
            raise EdgedError("too_large", f"the body is above {self._most} bytes")
        self._next = self._data if self._left else self._trailer
        return self._framed(end + 2 - at)

    def _data(self, data: bytes, at: int) -> int:
        piece = data[at : at + self._left]
        self._room.take(len(piece))
        self.got += len(piece)
        self._buffer.write(piece)
        self._framing = 0
        self._left -= len(piece)
        if not self._left:
            self._next = self._line_end
        return len(piece)

    def _line_end(self, data: bytes, at: int) -> int:
        if len(data) - at < 2:
            return 0
        if data[at : at + 2] != b"\r\n":
            raise EdgedError("bad_input", "a chunk is longer than its size", _HINT)
        self._next = self._size
        return self._framed(2)

    def _trailer(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at)
        if end < 0:
            return 0
        if _TRAILER.fullmatch(data, at, end) is None:
            raise EdgedError("bad_input", "the trailers of the body cannot be read", _HINT)
        if end == at:
            self._next = self._end
        return self._framed(end + 2 - at)

    def _end(self, data: bytes, at: int) -> int:  # noqa: ARG002  -  one of the above
        return 0

    def _framed(self, size: int) -> int:
        self._framing += size
        return size
