"""Shared memory between the daemon and one worker: slots that are mapped once and used again and again (RULES 12).

A payload that does not fit a message is written into a slot by one side and read where it lies by the
other; a message tells which slot. Two rings a worker: the daemon writes one, which no worker can map
for writing, and the worker writes the other. Nobody can shrink or grow either, so that no process ends
by SIGBUS for what the other one does. The daemon alone says which slot is used for what.
"""

from __future__ import annotations

import fcntl
import heapq
import mmap
import os
from collections.abc import Sequence
from typing import Final

# Two batches in flight, a probe beside them, and one to spare. Memory is taken when a slot is first written.
SLOTS: Final = 4
# The largest slot. Larger payloads travel in a memfd of their own, whose pages are new each time.
LARGEST_SLOT: Final = 8 * 2**20
_FUTURE_WRITE: Final = 0x0010  # F_SEAL_FUTURE_WRITE of linux/fcntl.h, which Python 3.11 does not name
_FIXED: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def slot_size(message_limit: int) -> int:
    """The bytes of a slot for a model whose inputs and results are at most `message_limit`: whole pages."""
    return -(-min(message_limit, LARGEST_SLOT) // mmap.PAGESIZE) * mmap.PAGESIZE


class Ring:
    """SLOTS slots of `slot_bytes`, mapped into this process. Unmapped when nothing refers to it any more."""

    __slots__ = ("_memory", "slot_bytes")

    def __init__(self, memory: mmap.mmap, slot_bytes: int) -> None:
        self._memory = memoryview(memory)
        self.slot_bytes: Final = slot_bytes

    @classmethod
    def create(cls, slot_bytes: int, *, writer: bool) -> tuple[Ring, int]:
        """The daemon's side of a new ring, which it alone writes when `writer`, and a descriptor to pass on.

        Raises OSError when the box has no descriptor or address space left.
        """
        size = SLOTS * slot_bytes
        descriptor = os.memfd_create("edged-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size)
            # A mapping that exists stays writable; the seal is for those that come later, and for write().
            protection = mmap.PROT_READ | mmap.PROT_WRITE if writer else mmap.PROT_READ
            memory = mmap.mmap(descriptor, size, mmap.MAP_SHARED, protection)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _FIXED | (_FUTURE_WRITE if writer else 0))
        except BaseException:
            os.close(descriptor)
            raise
        return cls(memory, slot_bytes), descriptor

    @classmethod
    def attach(cls, descriptor: int, *, writer: bool) -> Ring:
        """The worker's side of a ring; `descriptor` may be closed afterwards."""
        size = os.fstat(descriptor).st_size
        protection = mmap.PROT_READ | mmap.PROT_WRITE if writer else mmap.PROT_READ
        return cls(mmap.mmap(descriptor, size, mmap.MAP_SHARED, protection), size // SLOTS)

    def write(self, slot: int, payloads: Sequence[bytes | memoryview]) -> None:
        """Puts the payloads one behind the other into a slot, which they fit."""
        start = slot * self.slot_bytes
        for payload in payloads:
            self._memory[start : start + len(payload)] = payload
            start += len(payload)

    def view(self, slot: int, size: int) -> memoryview:
        """The first `size` bytes of a slot, to be read before the slot is given back. Raises ValueError outside."""
        if not (0 <= slot < SLOTS and 0 <= size <= self.slot_bytes):
            raise ValueError(f"slot {slot} with {size} bytes")
        start = slot * self.slot_bytes
        return self._memory[start : start + size].toreadonly()


class Slots:
    """Which slots of a ring are free. The lowest comes first, so that few of them ever take memory."""

    __slots__ = ("_free",)

    def __init__(self) -> None:
        self._free = list(range(SLOTS))

    def take(self) -> int | None:
        """A slot for the caller alone until it gives it back; None when all are in use."""
        return heapq.heappop(self._free) if self._free else None

    def give_back(self, slot: int) -> None:
        heapq.heappush(self._free, slot)
