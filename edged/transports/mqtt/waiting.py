"""The room of 256 for inputs that a full lane would not take: unacknowledged, in order per model (RULES 19)."""

from __future__ import annotations

from collections import deque
from typing import Final

from edged.messages import Input

FULL: Final = 256  # past it reading pauses; also MQTT 5's Receive Maximum, so there it is never passed
BYTES: Final = 64 * 2**20  # of their payloads, however few they are
_SLACK: Final = 128  # what paho may still hand over in the turn in which the room became full


class WaitingRoom:
    """Blocked inputs of one connection; `number` is the connection they came on."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[tuple[int, Input]]] = {}
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        return self._count >= FULL or self._bytes >= BYTES

    @property
    def overfull(self) -> bool:
        return self._count >= FULL + _SLACK or self._bytes >= 2 * BYTES

    def holds(self, model: str) -> bool:
        """Whether inputs of `model` wait: a newer one must not overtake them."""
        return model in self._queues

    def add(self, number: int, item: Input) -> None:
        self._queues.setdefault(item.model, deque()).append((number, item))
        self._count += 1
        self._bytes += len(item.payload)

    def first(self, model: str) -> Input | None:
        queue = self._queues.get(model)
        return queue[0][1] if queue else None

    def leave(self, model: str) -> None:
        """The first input of `model` was taken."""
        queue = self._queues[model]
        _, item = queue.popleft()
        self._count -= 1
        self._bytes -= len(item.payload)
        if not queue:
            del self._queues[model]

    def forget(self, number: int) -> int:
        """Drops inputs of connections before `number`: the broker sends them again. Returns how many."""
        before = self._count
        for model, queue in list(self._queues.items()):
            kept = deque(entry for entry in queue if entry[0] >= number)
            self._count -= len(queue) - len(kept)
            self._bytes -= sum(len(item.payload) for entry, item in queue if entry < number)
            if kept:
                self._queues[model] = kept
            else:
                del self._queues[model]
        return before - self._count
