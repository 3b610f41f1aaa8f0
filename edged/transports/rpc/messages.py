"""A call's bytes, cut into messages: a flag, four bytes of length, and so many bytes (gRPC over HTTP/2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edged.errors import EdgedError
from edged.oip.bodies import Room, Sized
from edged.transports.rpc.replies import MISMARKED

PREFIX: Final = 5


def prefixed(message: bytes) -> bytes:
    """What stands in front of a message."""
    return b"\0" + len(message).to_bytes(4, "big")


class Messages:
    """Messages of at most `limit` bytes, each compressed as `coding` has it or not at all. One that comes in pieces has
    its place from `room`; so have bytes that wait.

    `coding` is that of the message that came last, "" for none. `got` counts bytes and `began` messages, for those who
    look whether it goes on; `fed` is how many bytes of what is fed the message before has ended at. `close` gives back
    what it took.
    """

    __slots__ = ("_body", "_coding", "_limit", "_prefix", "_room", "_waiting", "began", "coding", "fed", "got")

    def __init__(self, limit: int, room: Room, coding: str = "") -> None:
        self._limit = limit
        self._coding = coding
        self._room = room
        self._prefix = b""
        self._body: Sized | None = None
        self._waiting = bytearray()
        self.began = 0
        self.coding = ""
        self.fed = 0
        self.got = 0

    @property
    def partial(self) -> bool:
        """In the middle of a message."""
        return self._body is not None or bool(self._prefix)

    @property
    def waits(self) -> bool:
        """There is something that `wait` kept."""
        return bool(self._waiting)

    def feed(self, data: memoryview) -> Iterator[bytes]:
        """The messages that end in `data`; EdgedError for one that is not taken, and nothing more may be fed then."""
        self.got += len(data)
        at = 0
        while at < len(data):
            if self._body is None:
                lead = PREFIX - len(self._prefix)
                start = data[at : at + lead]
                at += len(start)
                prefix = self._prefix + bytes(start)
                if len(prefix) < PREFIX:
                    self._prefix = prefix
                    return
                self._prefix = b""
                size = self._size(prefix)
                if size <= len(data) - at:
                    at = self.fed = at + size
                    yield bytes(data[at - size : at])
                    continue
                self._body = Sized(size, self._room)
            body = self._body
            part = data[at : at + body.size - body.got]
            body.add(part)
            at += len(part)
            if body.complete:
                self.fed = at
                yield self._whole(body)

    def rest(self) -> memoryview | None:
        """Where the next bytes of a message that has begun may be put; `put` is then told how many they are."""
        return None if self._body is None or self._waiting else self._body.rest()

    def put(self, size: int) -> None:
        self.got += size
        if self._body is not None:
            self._body.got += size

    def taken(self) -> bytes | None:
        """The message that `put` has completed, once the read has let go of it."""
        body = self._body
        return self._whole(body) if body is not None and body.complete else None

    def wait(self, data: memoryview) -> None:
        """Keeps bytes for later. Raises EdgedError `queue_full`."""
        self._room.take(len(data))
        self._waiting += data

    def take_up(self) -> bytes | None:
        """The next message of what was kept; None where that has only the beginning of one. Raises EdgedError."""
        with memoryview(self._waiting) as view:
            message = next(self.feed(view), None)
        done = len(self._waiting) if message is None else self.fed
        del self._waiting[:done]  # a bytearray moves its beginning, and not its bytes
        self._room.give(done)
        return message

    def close(self) -> None:
        self._room.give(len(self._waiting))
        self._waiting = bytearray()
        if self._body is not None:
            self._body.close()
            self._body = None

    def _size(self, prefix: bytes) -> int:
        self.began += 1
        if prefix[0] and not (self._coding and prefix[0] == 1):
            raise EdgedError(MISMARKED.code, MISMARKED.message, MISMARKED.hint)
        self.coding = self._coding if prefix[0] else ""
        size = int.from_bytes(prefix[1:], "big")
        if size > self._limit:
            raise EdgedError("too_large", f"the message of {size} bytes is above {self._limit} bytes")
        return size

    def _whole(self, body: Sized) -> bytes:
        self._body = None
        message = body.body()
        body.close()
        return message
