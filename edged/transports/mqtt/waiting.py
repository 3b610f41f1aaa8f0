"""The room of 256 for inputs that a full lane would not take: unacknowledged, in order per line (RULES 19)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from edged.messages import Input

FULL: Final = 256  # past it reading pauses; also MQTT 5's Receive Maximum, so there it is never passed
BYTES: Final = 64 * 2**20  # of their payloads, however few they are
_SLACK: Final = 128  # what paho may still hand over in the turn in which the room became full


class WaitingRoom:
    """Blocked inputs, in a line for each model or, where `line` names one, for each stream of it.

    An input comes with the number of its connection.
    """

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, deque[tuple[int, Input]]]] = {}
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

    def holds(self, model: str, line: str = "") -> bool:
        """Whether inputs of that line wait: a newer one must not overtake them."""
        return line in self._lines.get(model, ())

    def lines(self, model: str) -> list[str]:
        """The lines in which inputs of `model` wait."""
        return list(self._lines.get(model, ()))

    def add(self, number: int, item: Input, line: str = "") -> None:
        self._lines.setdefault(item.model, {}).setdefault(line, deque()).append((number, item))
        self._count += 1
        self._bytes += len(item.payload)

    def first(self, model: str, line: str = "") -> Input | None:
        queue = self._lines.get(model, {}).get(line)
        return queue[0][1] if queue else None

    def leave(self, model: str, line: str = "") -> None:
        """The first input of that line was taken."""
        queue = self._lines[model][line]
        _, item = queue.popleft()
        self._count -= 1
        self._bytes -= len(item.payload)
        self._tidy(model)

    def replace(self, change: Callable[[Input], Input]) -> None:
        """Each input becomes what `change` makes of it: of the same size, of the same model."""
        for lines in self._lines.values():
            for line, queue in lines.items():
                lines[line] = deque((number, change(item)) for number, item in queue)

    def forget(self, number: int) -> int:
        """Drops inputs of connections before `number`: the broker sends them again. Returns how many."""
        before = self._count
        for model, lines in list(self._lines.items()):
            for line, queue in lines.items():
                lines[line] = kept = deque(entry for entry in queue if entry[0] >= number)
                self._count -= len(queue) - len(kept)
                self._bytes -= sum(len(item.payload) for entry, item in queue if entry < number)
            self._tidy(model)
        return before - self._count

    def _tidy(self, model: str) -> None:
        """A line is there only while somebody stands in it."""
        self._lines[model] = {line: queue for line, queue in self._lines[model].items() if queue}
        if not self._lines[model]:
            del self._lines[model]
