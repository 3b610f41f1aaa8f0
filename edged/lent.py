"""A client's memory, mapped by who serves it: its large tensors lie there, and there it gets its results (RULES 12).

The client made it, so nothing in it is believed: neither what it says nor that it stays as it is. Its size is
sealed, or its maker could end the process by SIGBUS; what says how to read the rest is copied before it is looked at.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Final, NamedTuple

from edged import frames, passed
from edged.errors import EdgedError
from edged.frames import Buffer

_FIXED: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_WORTH_IT: Final = 4096  # bytes of a result below which it goes over the socket: a note costs as much
_HINT: Final = "A ring is a memfd, sealed with F_SEAL_SHRINK and F_SEAL_GROW: docs/fast.md."


class Place(NamedTuple):
    """Where a client wants its result: `memory` is the ring's from `start` on."""

    start: int
    memory: memoryview

    def put(self, result: Buffer) -> bytes:
        """Leaves a result's body there; what says so, or b"" where it has no room or is not worth it."""
        size = len(result)
        if not _WORTH_IT <= size <= len(self.memory):
            return b""
        self.memory[:size] = result
        return frames.PART.pack(self.start, size)


class Ring:
    """The memory behind a memfd of a client's. Unmapped when nothing refers to it any more."""

    def __init__(self, descriptor: int, most: int) -> None:
        """Maps it; the descriptor stays the caller's. Raises EdgedError bad_input, too_large or over_memory."""
        try:
            sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        except OSError as error:
            raise EdgedError("bad_input", "the ring's descriptor is no memfd", _HINT) from error
        if sealed & _FIXED != _FIXED:
            raise EdgedError("bad_input", "the ring's size is not sealed", _HINT)
        # Huge pages are given out by a count that may be used up: a touch could end the process.
        if os.fstatvfs(descriptor).f_bsize != mmap.PAGESIZE:
            raise EdgedError("bad_input", "the ring is of huge pages", _HINT)
        self.size: Final = os.fstat(descriptor).st_size
        if not 0 < self.size <= most:
            what = f"the ring has {self.size} bytes, it may have 1 to {most}"
            raise EdgedError("too_large", what, "Make it smaller.")
        try:
            self._memory = memoryview(mmap.mmap(descriptor, self.size))
        except (OSError, ValueError) as error:  # sealed against writing too, or no address space left
            raise EdgedError("bad_input", f"the ring cannot be mapped: {error}", _HINT) from error

    def place(self, body: memoryview) -> tuple[memoryview, Place | None]:
        """Where a request's tensors are, and the room for its result, None for none. Raises EdgedError bad_input."""
        if len(body) != frames.PLACE.size:
            what = f"a request in the ring has a body of {frames.PLACE.size} bytes, not {len(body)}"
            raise EdgedError("bad_input", what, _HINT)
        at, size, room_at, room = frames.PLACE.unpack(body)
        if at + size > self.size or room_at + room > self.size:
            what = f"{size} bytes at {at}, {room} at {room_at}: the ring has {self.size}"
            raise EdgedError("bad_input", what, "Count from the ring's beginning.")
        given = Place(room_at, self._memory[room_at : room_at + room]) if room else None
        return self._memory[at : at + size].toreadonly(), given


class Rings:
    """The rings of all clients: of `each` bytes at most, together of `most`."""

    def __init__(self, each: int, most: int) -> None:
        self._each: Final = each
        self._most: Final = most
        self.used = 0

    def take(self, handed: passed.Handed) -> Ring:
        """Maps what a client has handed over; it counts until `give`. Raises EdgedError as Ring."""
        came, descriptor = handed.came, handed.one()
        if descriptor < 0:
            what = f"{came} descriptors came with a ring's frame, it takes one"
            raise EdgedError("bad_input", what, "Send it by SCM_RIGHTS with that frame, over the UNIX socket.")
        try:
            ring = Ring(descriptor, self._each)
        except BaseException:
            passed.close([descriptor])  # whatever it is
            raise
        os.close(descriptor)  # of a memfd, which takes no time
        if self.used + ring.size > self._most:
            what = f"the rings of all clients are above {self._most} bytes"
            raise EdgedError("over_memory", what, "Make it smaller, or send without one.")
        self.used += ring.size
        return ring

    def give(self, ring: Ring) -> None:
        """The client has gone."""
        self.used -= ring.size
