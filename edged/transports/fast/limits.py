"""What fast-lane clients may take, and the memory that is used again and again for their larger bodies. No I/O."""

from __future__ import annotations

from typing import Final

import msgspec

from edged.errors import EdgedError
from edged.oip.bodies import Room


class Limits(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds; most are those of HTTP (RULES 21), for the same reasons.

    `connections` is per listener. `pipeline`: how many requests of one connection may wait for their answers; more are
    left unread. `bodies`: how much memory bodies take together, from their head to their answer, one of the largest
    allowed at least; and how much answers that their clients do not take. `frame_s`: how long a frame may take once
    it has begun, `stall_s` how long it may bring nothing. `ring`: the largest ring of a client, `rings` all of them
    together. `deadline_s` is for models that set none. `linger_s`: how long a refused sender is still listened to, so
    that it reads why instead of a reset. `net_s`: how long after its deadline a request whose outcome never came is
    answered all the same. `sweep_s`: how often all of these times are looked at; each may be so much longer.
    """

    connections: int = 256
    pipeline: int = 64
    bodies: int = 64 * 1024 * 1024
    frame_s: float = 30.0
    stall_s: float = 5.0
    ring: int = 64 * 1024 * 1024
    rings: int = 256 * 1024 * 1024
    deadline_s: float = 10.0
    linger_s: float = 2.0
    net_s: float = 5.0
    sweep_s: float = 0.5

    @property
    def header_s(self) -> float:
        """There are no handshakes here."""
        return self.frame_s


_PAGE: Final = 4096
_SPARE: Final = 8 * 1024 * 1024  # bytes of buffers that are kept for the next bodies


class Pool:
    """Buffers for bodies, used again and again: 588 KiB into one that was there took 46 us, into a new one 759.

    What they take is taken from `room`, from a body's first byte until it is answered.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._spare: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """At least `size` bytes, with anything in them.

        Raises EdgedError, with no room taken: queue_full when there is none, over_memory when the box has no memory.
        """
        for buffer in self._spare:
            if size <= len(buffer) <= 2 * size + _PAGE:
                self._room.take(len(buffer))
                self._spare.remove(buffer)
                return buffer
        whole = -(-size // _PAGE) * _PAGE
        self._room.take(whole)
        try:
            return bytearray(whole)
        except MemoryError as error:
            self._room.give(whole)
            what = f"the box has no memory for a body of {size} bytes"
            raise EdgedError("over_memory", what, "Send less at once.") from error

    def give(self, buffer: bytearray) -> None:
        """Takes back what `take` gave: its bytes are soon another's."""
        self._room.give(len(buffer))
        self._spare.append(buffer)
        while sum(map(len, self._spare)) > _SPARE:
            self._spare.pop(0)
