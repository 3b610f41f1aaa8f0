"""A model's bounded queue: admission, overflow, deadlines, and which inputs make the next batch.

Policy only: no clock, no socket. Times come in as arguments, in seconds of the monotonic clock.
"""

from __future__ import annotations

import collections
import heapq
from collections.abc import Iterable
from typing import Final

import msgspec

from edged.channel import inline_room
from edged.config.schema import Overflow
from edged.messages import Admission, Input, Source

# What happens when the queue is full and the configuration does not say (RULES 19).
BY_SOURCE: Final[dict[Source, Overflow]] = {
    Source.HTTP: "reject",
    Source.MQTT_QOS0: "drop-oldest",
    Source.MQTT_QOS1: "block",
}


BYTES: Final = 64 * 2**20  # of payloads that wait for one model, however few they are


class Ticket:
    """An input that was admitted. `settled`: its sender has its outcome; a run may still be under way."""

    __slots__ = ("item", "retried", "settled")

    def __init__(self, item: Input) -> None:
        self.item = item
        self.settled = False
        self.retried = False


class Offer(msgspec.Struct, frozen=True):
    """What became of an offered ticket; `evicted` had to leave for it."""

    admission: Admission
    evicted: tuple[Ticket, ...] = ()


class Lane:
    """Waiting inputs in the order they came. `overflow` None: as BY_SOURCE says."""

    def __init__(self, size: int, overflow: Overflow | None = None) -> None:
        self.size: Final = size
        self._overflow = overflow
        self._waiting: collections.deque[Ticket] = collections.deque()
        self._deadlines: list[tuple[float, int, Ticket]] = []
        self._count = 0
        self._tidy_at = 0
        self._bytes = 0
        self._refused_room = False

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, ticket: Ticket) -> Offer:
        """Takes the ticket, or says what the policy does when the queue is full."""
        room = len(ticket.item.payload)
        if self._fits(room):
            self._append(ticket)
            return Offer(Admission.TAKEN)
        source = ticket.item.source
        policy = self._overflow or BY_SOURCE[source]
        if policy == "block" and source is Source.MQTT_QOS1:
            self._refused_room = True
            return Offer(Admission.BLOCKED)
        if policy == "drop-oldest" and (evicted := self._evict(room)):
            self._append(ticket)
            return Offer(Admission.TAKEN, evicted)
        return Offer(Admission.REFUSED)

    def oldest(self) -> Ticket | None:
        return self._waiting[0] if self._waiting else None

    def take(self, most: int) -> list[Ticket]:
        """The next batch: at most `most` inputs that fit one message, or one larger input alone."""
        batch: list[Ticket] = []
        size = 0
        while self._waiting and len(batch) < most:
            following = len(self._waiting[0].item.payload)
            if batch and not inline_room(size + following, len(batch) + 1):
                break
            batch.append(self._waiting.popleft())
            size += following
        self._bytes -= size
        return batch

    def put_back(self, tickets: Iterable[Ticket]) -> None:
        """Returns tickets to the head, in their order; they may exceed the bounds. Settled ones stay out."""
        for ticket in reversed(list(tickets)):
            if not ticket.settled:
                self._waiting.appendleft(ticket)
                self._bytes += len(ticket.item.payload)

    def drain(self) -> list[Ticket]:
        """Everything that waits, taken out."""
        tickets = list(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return tickets

    def has_room_again(self) -> bool:
        """True once after a BLOCKED offer, when there is room."""
        if self._refused_room and self._fits(0):
            self._refused_room = False
            return True
        return False

    def next_deadline_s(self) -> float | None:
        """The earliest deadline of any ticket that is not settled, waiting or running."""
        while self._deadlines and self._deadlines[0][2].settled:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def expire(self, now_s: float) -> list[Ticket]:
        """Tickets whose deadline has passed, waiting or running; the waiting ones leave the queue.

        The caller settles them: a deadline answers the sender and neither stops a run nor frees its
        place (RULES 14).
        """
        late: list[Ticket] = []
        while (deadline_s := self.next_deadline_s()) is not None and deadline_s <= now_s:
            late.append(heapq.heappop(self._deadlines)[2])
        if late:
            gone = set(map(id, late))
            self._waiting = collections.deque(ticket for ticket in self._waiting if id(ticket) not in gone)
            self._bytes = sum(len(ticket.item.payload) for ticket in self._waiting)
        return late

    def _fits(self, room: int) -> bool:
        """Whether an input of `room` bytes may wait too; one alone always may."""
        return len(self._waiting) < self.size and (not self._waiting or self._bytes + room <= BYTES)

    def _append(self, ticket: Ticket) -> None:
        self._waiting.append(ticket)
        self._bytes += len(ticket.item.payload)
        if ticket.item.deadline_s is not None:
            self._tidy()
            self._count += 1
            heapq.heappush(self._deadlines, (ticket.item.deadline_s, self._count, ticket))

    def _tidy(self) -> None:
        """Lets go of what was settled meanwhile, behind an earlier deadline too: each holds a payload."""
        if len(self._deadlines) >= self._tidy_at:
            self._deadlines = [one for one in self._deadlines if not one[2].settled]
            heapq.heapify(self._deadlines)
            self._tidy_at = 2 * len(self._deadlines) + 8

    def _evict(self, room: int) -> tuple[Ticket, ...]:
        """Makes room by dropping the oldest that may be: any when the configuration says so, else QoS 0 inputs.

        None is dropped where that would not make enough of it.
        """
        evicted: list[Ticket] = []
        for ticket in list(self._waiting):
            if self._fits(room):
                break
            if self._overflow == "drop-oldest" or ticket.item.source is Source.MQTT_QOS0:
                self._waiting.remove(ticket)
                self._bytes -= len(ticket.item.payload)
                evicted.append(ticket)
        if self._fits(room):
            return tuple(evicted)
        self.put_back(evicted)
        return ()
