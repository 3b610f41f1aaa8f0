"""Waiting tickets: in one line, or in a line for each stream, served in turn. Policy only, no clock."""

from __future__ import annotations

import collections
import heapq
from collections.abc import Callable, Iterator
from typing import Final

from edged.messages import Input, Outcome, Source

# What a ticket weighs beside its bytes: of two streams with small inputs the one with more of them is the heavier.
_WEIGHT: Final = 1024


def _spent(_outcome: Outcome) -> None:
    raise RuntimeError("an input has one outcome")


_SPENT: Final = Input("", b"", Source.HTTP, _spent, 0.0)


class Ticket:
    """An input that was admitted. `settled`: its sender has its outcome; a run may still be under way.

    `taken`: it has been handed to a run once.
    """

    __slots__ = ("item", "retried", "settled", "taken")

    def __init__(self, item: Input) -> None:
        self.item = item
        self.settled = False
        self.retried = False
        self.taken = False

    def settle(self) -> Input:
        """The input, to be given its outcome now. It is let go of: a run or a deadline may hold the ticket for
        seconds more, and a payload has up to `limits.message`.
        """
        item, self.item, self.settled = self.item, _SPENT, True
        return item


May = Callable[[Ticket], bool]


class Line:
    """Tickets in the order they came; `bytes` of their payloads."""

    __slots__ = ("bytes", "tickets")

    def __init__(self) -> None:
        self.bytes = 0
        self.tickets: collections.deque[Ticket] = collections.deque()

    def __len__(self) -> int:
        return len(self.tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self.tickets)

    def append(self, ticket: Ticket) -> None:
        self.tickets.append(ticket)
        self.bytes += len(ticket.item.payload)

    def put_back(self, ticket: Ticket) -> None:
        """To the head."""
        self.tickets.appendleft(ticket)
        self.bytes += len(ticket.item.payload)

    def next(self) -> Ticket | None:
        return self.tickets[0] if self.tickets else None

    def take(self) -> Ticket:
        """Takes what `next` names."""
        ticket = self.tickets.popleft()
        self.bytes -= len(ticket.item.payload)
        return ticket

    def remove(self, ticket: Ticket) -> None:
        self.tickets.remove(ticket)
        self.bytes -= len(ticket.item.payload)

    def remove_all(self, gone: set[int]) -> None:
        """Takes out every ticket whose `id` is in `gone`, in one pass."""
        self.tickets = collections.deque(ticket for ticket in self.tickets if id(ticket) not in gone)
        self.bytes = sum(len(ticket.item.payload) for ticket in self.tickets)

    def replace(self, ticket: Ticket) -> Ticket:
        """Puts a ticket in the place of the newest one, which is returned."""
        old = self.tickets.pop()
        self.bytes -= len(old.item.payload)
        self.append(ticket)
        return old

    def droppable(self, may: May) -> Iterator[Ticket]:
        """The tickets that may be dropped, the oldest first; each is taken out before the next is asked for."""
        while (found := next(filter(may, self.tickets), None)) is not None:
            yield found


def _weight(line: Line) -> int:
    return line.bytes + _WEIGHT * len(line.tickets)


class Turns:
    """A line for each stream, one ticket of each in turn. A line is there only while it has tickets."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lines: collections.OrderedDict[str, Line] = collections.OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Ticket]:
        for line in self._lines.values():
            yield from line

    @property
    def streams(self) -> int:
        return len(self._lines)

    def line(self, stream: str) -> Line | None:
        """The line of a stream that has tickets here."""
        return self._lines.get(stream)

    def append(self, ticket: Ticket) -> None:
        """Behind the others of its stream; a stream that had none waits for its turn behind all."""
        self._line(ticket).append(ticket)
        self._noted(ticket, 1)

    def put_back(self, ticket: Ticket) -> None:
        """Before the others of its stream, whose turn is next."""
        self._line(ticket).put_back(ticket)
        self._lines.move_to_end(ticket.item.stream, last=False)
        self._noted(ticket, 1)

    def next(self) -> Ticket | None:
        """The first ticket of the stream whose turn it is."""
        return next(iter(self._lines.values())).next() if self._lines else None

    def take(self) -> Ticket:
        """Takes what `next` names; then it is the following stream's turn."""
        ticket = next(iter(self._lines.values())).take()
        self._lines.move_to_end(ticket.item.stream)
        self._noted(ticket, -1)
        return ticket

    def remove(self, ticket: Ticket) -> None:
        self._line(ticket).remove(ticket)
        self._noted(ticket, -1)

    def remove_all(self, gone: set[int]) -> None:
        """Takes out every ticket whose `id` is in `gone`, in one pass."""
        for line in self._lines.values():
            line.remove_all(gone)
        self._lines = collections.OrderedDict((stream, line) for stream, line in self._lines.items() if len(line))
        self.bytes = sum(line.bytes for line in self._lines.values())
        self._count = sum(map(len, self._lines.values()))

    def replace(self, ticket: Ticket) -> Ticket:
        """Puts a ticket in the place of its stream's newest one, which is returned."""
        old = self._lines[ticket.item.stream].replace(ticket)
        self.bytes += len(ticket.item.payload) - len(old.item.payload)
        return old

    def droppable(self, may: May) -> Iterator[Ticket]:
        """As Line.droppable, each the oldest of the stream that takes most room then.

        One is enough, mostly; a large input may take the place of hundreds, and then the streams are put in order once.
        """
        heaviest = max(self._lines.values(), key=_weight, default=None)
        if heaviest is not None and (first := next(heaviest.droppable(may), None)) is not None:
            yield first
        lines = [(-_weight(line), number, line) for number, line in enumerate(self._lines.values())]
        heapq.heapify(lines)
        while lines:
            weight, number, line = lines[0]
            if weight != -_weight(line):
                heapq.heapreplace(lines, (-_weight(line), number, line))
            elif (found := next(line.droppable(may), None)) is not None:
                yield found
            else:
                heapq.heappop(lines)

    def _line(self, ticket: Ticket) -> Line:
        line = self._lines.get(ticket.item.stream)
        if line is None:
            line = self._lines[ticket.item.stream] = Line()
        return line

    def _noted(self, ticket: Ticket, sign: int) -> None:
        self._count += sign
        self.bytes += sign * len(ticket.item.payload)
        if not len(self._lines[ticket.item.stream]):
            del self._lines[ticket.item.stream]
