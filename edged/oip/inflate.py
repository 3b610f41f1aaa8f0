"""Compressed request bodies: inflated under a limit, in the loop while that is short, else in a thread.

Answers are never compressed: a client may ask for it, and over loopback or a plant's network it costs both sides more
than it saves.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from edged.errors import EdgedError

WINDOWS: Final = {
    "gzip": 16 + zlib.MAX_WBITS,
    "x-gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}  # RFC 9110, 8.4.1
_AT_ONCE: Final = 128 * 1024  # bytes that are inflated in the loop: half a millisecond
_PIECE: Final = 32 * 1024  # compressed bytes of a step, and the most in the loop: 3 ms where they say nothing
_STEP: Final = 1024 * 1024
_WAITING: Final = 8  # bodies that wait for the thread, each of which may be as large as its limit
_HINT: Final = "Send the body plain, or compress it anew: gzip, or deflate in zlib's framing."


class Inflation:
    """One body: `more` until it says that it is whole. Never holds more than `limit` bytes and a step."""

    def __init__(self, coding: str, data: bytes, limit: int) -> None:
        self._inflate = zlib.decompressobj(WINDOWS[coding])
        self._coding = coding
        self._rest = memoryview(data)
        self._limit = limit
        self._got = 0
        self._parts: list[bytes] = []

    def more(self, most: int) -> bool:
        """Inflates `most` bytes more, or one piece. Raises EdgedError `too_large` or `bad_input`."""
        piece: bytes | memoryview = self._inflate.unconsumed_tail
        if not piece:
            piece, self._rest = self._rest[:_PIECE], self._rest[_PIECE:]
        try:
            part = self._inflate.decompress(piece, most)
        except zlib.error as error:
            raise EdgedError("bad_input", f"the body is no {self._coding}: {error}", _HINT) from error
        self._got += len(part)
        self._parts.append(part)
        if self._got > self._limit:
            raise EdgedError("too_large", f"the body is above {self._limit} bytes when it is inflated")
        if self._inflate.eof:
            if self._inflate.unused_data or self._rest:
                raise EdgedError("bad_input", f"bytes follow the end of the {self._coding} body", _HINT)
            return True
        if not (part or self._rest or self._inflate.unconsumed_tail):
            raise EdgedError("bad_input", f"the {self._coding} body ends before its end", _HINT)
        return False

    def body(self) -> bytes:
        return b"".join(self._parts)

    def finish(self) -> bytes:
        """All of it; for a thread, as zlib lets go of the interpreter meanwhile. Raises as `more`."""
        while not self.more(_STEP):
            pass
        return self.body()


class Inflater:
    """The bodies of all connections: one at a time in the thread, few that wait for it."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0

    def at_once(self, coding: str, data: bytes, limit: int) -> bytes | Inflation:
        """The body, or what `later` goes on with when it takes longer. Raises EdgedError `too_large`, `bad_input`."""
        inflation = Inflation(coding, data, limit)
        return inflation.body() if inflation.more(_AT_ONCE) else inflation

    async def later(self, inflation: Inflation) -> bytes:
        """Raises EdgedError `queue_full` when too many wait already, else as Inflation."""
        if self._waiting >= _WAITING:
            raise EdgedError("queue_full", f"{_WAITING} compressed bodies wait to be inflated", "Send them plain.")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(inflation.finish)
        finally:
            self._waiting -= 1
