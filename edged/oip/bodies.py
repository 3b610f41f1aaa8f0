"""Bodies of announced size, received in their place, and the memory that they share."""

from __future__ import annotations

import io

from edged.errors import EdgedError


class Room:
    """The memory that bodies under way share, so that many senders at once cannot take all of it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0

    def take(self, size: int) -> None:
        """Raises EdgedError `queue_full`, nothing taken, when there is not enough."""
        if self.used + size > self.size:
            raise EdgedError("queue_full", f"the bodies under way are above {self.size} bytes", "Send less at once.")
        self.used += size

    def give(self, size: int) -> None:
        """Takes back what `take` took."""
        self.used -= size


class Sized:
    """One body on its way, `size` bytes, at least one.

    Made only when a complete header has announced the size and the request was admitted: this is where
    the place comes from, and so where a slot of a shared ring will be asked for (RULES 12). The place is
    taken from `room`, and given back by `close`.
    """

    __slots__ = ("_buffer", "_room", "_view", "got", "size")

    def __init__(self, size: int, room: Room) -> None:
        """Raises EdgedError `queue_full` when there is no room."""
        room.take(size)
        self._room = room
        # BytesIO gives out its bytes as they are: written by the kernel, and never copied.
        self._buffer = io.BytesIO(bytes(size))
        self._view = self._buffer.getbuffer()
        self.size = size
        self.got = 0  # bytes so far

    @property
    def complete(self) -> bool:
        return self.got == self.size

    def rest(self) -> memoryview:
        """Where the next bytes go."""
        return self._view[self.got :]

    def add(self, data: memoryview) -> None:
        """Puts `data`, not longer than the rest, where it belongs."""
        self._view[self.got : self.got + len(data)] = data
        self.got += len(data)

    def body(self) -> bytes:
        """The whole body; the last call before `close`."""
        self._view.release()
        return self._buffer.getvalue()

    def close(self) -> None:
        self._room.give(self.size)
        self._view.release()
