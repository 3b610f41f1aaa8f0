"""Inputs that were under way when a process of the model ended: told apart by their bytes, and run alone (RULES 13)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from edged.errors import Fault, fault

_LOOKED_AT: Final = 4096  # bytes of each input: a mark costs 0.3 us a request, and need not tell all inputs apart


def mark(body: memoryview) -> int:
    """A number below 2**64 that is the same for the same input, and nearly always another for another one."""
    return zlib.crc32(body[:_LOOKED_AT]) << 32 | len(body) & 0xFFFFFFFF


def digest(body: memoryview) -> int:
    """A number from 1 below 2**64 by which no two inputs are taken for one another."""
    return int.from_bytes(blake2b(body, digest_size=8).digest(), "little") | 1


class Suspects:
    """`suspects` are marks; `poison` (mark, digest) of inputs that ended a process alone."""

    def __init__(self, suspects: Iterable[int], poison: Iterable[tuple[int, int]]) -> None:
        self._poison = frozenset(poison)
        self._bad = frozenset(mark for mark, _ in self._poison)
        self._marks = set(suspects)

    def __bool__(self) -> bool:
        return bool(self._marks or self._bad)

    def suspect(self, mark: int) -> bool:
        """Whether an input with this mark is to be run alone."""
        return mark in self._marks or mark in self._bad

    def verdict(self, mark: int, digest: int) -> Fault | None:
        """What a suspect is answered that has ended a process alone."""
        if (mark, digest) in self._poison:
            return fault("poison_input", "this input ended the model's process twice, the second time alone")
        return None

    def clear(self, mark: int) -> None:
        """It ran, and the process is still there."""
        self._marks.discard(mark)
