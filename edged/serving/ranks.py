"""Waiting tickets of several priorities: a line for each; the first goes, unless another was passed over too often.

Policy only, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edged.serving.turns import Line, May, Ticket

LEVELS: Final = 8  # larger numbers count as this one
USUAL: Final = 2  # of inputs that say nothing: there is one level before it and several behind
PASSED: Final = 16  # so many of others go before one of a line that waits: nothing waits for ever


def level(ticket: Ticket) -> int:
    return min(ticket.item.priority or USUAL, LEVELS)


class Ranks:
    """Tickets by level, in each in the order they came. A level's line is kept when it is empty: there are few."""

    def __init__(self, tickets: Line) -> None:
        """`tickets`: what waits already, all of the usual level."""
        self._lines: dict[int, Line] = {USUAL: tickets}
        self._passed: dict[int, int] = {USUAL: 0}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[Ticket]:
        for _, line in sorted(self._lines.items()):
            yield from line

    @property
    def bytes(self) -> int:
        return sum(line.bytes for line in self._lines.values())

    def append(self, ticket: Ticket) -> None:
        self._line(ticket).append(ticket)

    def put_back(self, ticket: Ticket) -> None:
        """To the head of its level."""
        self._line(ticket).put_back(ticket)

    def next(self) -> Ticket | None:
        """Of the level whose turn it is."""
        turn = self._turn()
        return None if turn is None else self._lines[turn].next()

    def take(self) -> Ticket:
        """Takes what `next` names."""
        turn = self._turn()
        if turn is None:
            raise IndexError("nothing waits")
        for other, line in self._lines.items():
            self._passed[other] = self._passed[other] + 1 if len(line) and other != turn else 0
        return self._lines[turn].take()

    def remove(self, ticket: Ticket) -> None:
        self._line(ticket).remove(ticket)

    def remove_all(self, gone: set[int]) -> None:
        """Takes out every ticket whose `id` is in `gone`, in one pass."""
        for line in self._lines.values():
            line.remove_all(gone)

    def droppable(self, may: May) -> Iterator[Ticket]:
        """As Line.droppable, those of the last level first."""
        for _, line in sorted(self._lines.items(), reverse=True):
            yield from line.droppable(may)

    def _turn(self) -> int | None:
        waiting = [one for one, line in self._lines.items() if len(line)]
        late = [one for one in waiting if self._passed[one] >= PASSED]
        if late:
            return max(late, key=self._passed.__getitem__)
        return min(waiting, default=None)

    def _line(self, ticket: Ticket) -> Line:
        number = level(ticket)
        if number not in self._lines:
            self._lines[number], self._passed[number] = Line(), 0
        return self._lines[number]
