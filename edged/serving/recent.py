"""The last real inputs of a model, on which a pushed one is tried (RULES 24). In memory only.

Inputs that were answered without a fault: one that ends a process would end every candidate, and the
live model beside it, and one that the live model refuses says nothing about a candidate.
"""

from __future__ import annotations

import collections
from typing import Final

from edged.channel import InputHead

MOST: Final = 16
MOST_BYTES: Final = 4 * 2**20


class Recent:
    """At most MOST inputs and MOST_BYTES of payload; a payload that is larger by itself is not kept."""

    def __init__(self) -> None:
        self._kept: collections.deque[tuple[InputHead, bytes]] = collections.deque()
        self._bytes = 0

    def add(self, head: InputHead, payload: bytes | memoryview) -> None:
        """Keeps an input, and lets go of the oldest ones that have no room beside it."""
        if len(payload) > MOST_BYTES:
            return
        self._kept.append((head, bytes(payload)))  # a copy only of what is the sender's again
        self._bytes += len(payload)
        while len(self._kept) > MOST or self._bytes > MOST_BYTES:
            self._bytes -= len(self._kept.popleft()[1])

    def newest_last(self) -> list[tuple[InputHead, bytes]]:
        return list(self._kept)
