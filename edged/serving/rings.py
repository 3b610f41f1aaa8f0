"""The memory that the daemon shares with one worker, and which of its slots are in use (RULES 12)."""

from __future__ import annotations

import os
from typing import Final

from edged.channel import INLINE, MEMFD, inline_room
from edged.errors import EdgedError
from edged.rings import Ring, Slots, slot_size

# From here on a payload that travels alone is cheaper in a slot than in its message (docs/adr/0008).
WORTH_A_SLOT: Final = 16 * 1024


class Rings:
    """Two rings of a worker: the daemon writes `inputs`, the worker writes `results`.

    Raises EdgedError over_memory when the box has no room for them.
    """

    def __init__(self, message_limit: int) -> None:
        size = slot_size(message_limit)
        self._passed: list[int] = []
        try:
            for writer in (True, False):
                ring, descriptor = Ring.create(size, writer=writer)
                self._passed.append(descriptor)
                if writer:
                    self.inputs = ring
                else:
                    self.results = ring
        except OSError as error:
            self.passed_on()
            raise EdgedError("over_memory", f"the box has no room for a worker's memory: {error.strerror}") from error
        self._free_inputs, self._free_results = Slots(), Slots()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the worker needs to map them, until they have been passed on."""
        return tuple(self._passed)

    def passed_on(self) -> None:
        """The worker has the descriptors, or nobody will: the mapping needs none."""
        while self._passed:
            os.close(self._passed.pop())

    def place(self, size: int, inputs: int) -> int:
        """Where `size` bytes of so many inputs go: INLINE, MEMFD, or a slot, which is taken."""
        if inline_room(size, inputs) and (inputs > 1 or size < WORTH_A_SLOT):
            return INLINE
        slot = self._free_inputs.take() if size <= self.inputs.slot_bytes else None
        if slot is not None:
            return slot
        return INLINE if inline_room(size, inputs) else MEMFD

    def room(self) -> int:
        """A slot for an answer, which is taken; INLINE when there is none."""
        slot = self._free_results.take()
        return INLINE if slot is None else slot

    def free(self, place: int, room: int) -> None:
        """Gives back what `place` and `room` gave."""
        if place >= 0:
            self._free_inputs.give_back(place)
        if room >= 0:
            self._free_results.give_back(room)
