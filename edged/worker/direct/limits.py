"""What clients of a model's own socket may take: numbers, sizes, times, and the memory that their frames share."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds; the same bounds as HTTP's where both have them.

    `buffer`: what a connection reads into, and how much it reads at once; a frame that is larger gets a buffer of its
    size. `frames`: what those take on all connections together, and what is copied out of rings for a batch. `ring`:
    the largest of a client, `rings` all of them together. `untaken`: results that a client has not taken yet;
    past it nothing more is run for it. `answers`: the same of all clients together, of those that are slow to take
    them. `stall_s`: how long a frame may bring nothing, and a client take nothing; `frame_s`: how long a frame may
    take, and answers at a pace below edged.taking's. `sweep_s`: how often these are looked at, while there is a need.
    """

    connections: int = 256
    buffer: int = 64 * 1024
    frames: int = 64 * 1024 * 1024
    ring: int = 64 * 1024 * 1024
    rings: int = 256 * 1024 * 1024
    untaken: int = 1024 * 1024
    answers: int = 64 * 1024 * 1024
    stall_s: float = 5.0
    frame_s: float = 30.0
    sweep_s: float = 0.5


class Room:
    """The memory that large frames share."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> bool:
        """Whether there was enough."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give(self, size: int) -> None:
        self._left += size
