"""A model's bounded queue: admission, overflow, deadlines, and which inputs make the next batch.

Policy only: no clock, no socket. Times come in as arguments, in seconds of the monotonic clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from edged.channel import inline_room
from edged.config.schema import Overflow, Per
from edged.messages import Admission, Source
from edged.serving.ranks import Ranks
from edged.serving.turns import Line, Ticket, Turns

# What happens when the queue is full and the configuration does not say (RULES 19).
BY_SOURCE: Final[dict[Source, Overflow]] = {
    Source.HTTP: "reject",
    Source.GRPC: "reject",
    Source.FAST: "reject",
    Source.MQTT_QOS0: "drop-oldest",
    Source.MQTT_QOS1: "block",
}


BYTES: Final = 64 * 2**20  # of payloads that wait for one model, however few they are
# With a line for each stream: how many of them there may be, and how many inputs in all of them.
STREAMS: Final = 1024
SHARED: Final = 4096


class Offer(msgspec.Struct, frozen=True):
    """What became of an offered ticket; `evicted` had to leave for it."""

    admission: Admission
    evicted: tuple[Ticket, ...] = ()


_TAKEN: Final = Offer(Admission.TAKEN)


class Lane:
    """Waiting inputs, in the order they came or, `per` stream, one of each stream in turn.

    Inputs with a priority go before or behind the others, but where there is a line for each stream: there the streams
    take turns, whatever their inputs say.

    `overflow` None: as BY_SOURCE says. `latest`: only the newest input of each stream waits, in the place of the one
    before it; inputs without a stream (somebody waits for each of them) are never replaced.

    Per stream, `size` is one stream's. A stream that has nothing waiting may always have one input wait, whatever
    the others do; beyond that they share SHARED places, and BYTES in any case.
    """

    def __init__(self, size: int, overflow: Overflow | None = None, per: Per = "model") -> None:
        self.size = size
        self.overflow = overflow
        self._per_stream = per == "stream"
        self._shared = max(size, SHARED)
        # With `latest` every line has one place, so turns are the order they came in.
        self._turns = Turns() if per == "stream" or overflow == "latest" else None
        self._waiting: Line | Turns | Ranks = Line() if self._turns is None else self._turns
        self._deadlines: list[tuple[float, int, Ticket]] = []
        self._count = 0
        self._tidy_at = 0
        self.blocked: set[str] = set()  # streams of which an input was told to wait

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self._waiting)

    def adopted(self, size: int, overflow: Overflow | None, per: Per) -> Lane:
        """A lane under other settings with everything that waits here, though it may be above the new bounds."""
        lane = Lane(size, overflow, per)
        for ticket in self:
            lane._put(ticket)
        for _, _, ticket in self._deadlines:
            lane._note_deadline(ticket)  # of what runs too
        return lane

    def offer(self, ticket: Ticket) -> Offer:
        """Takes the ticket, or says what the policy does when the queue is full."""
        item = ticket.item
        room = len(item.payload)
        if self.overflow == "latest" and (old := self._replaced(ticket)) is not None:
            return Offer(Admission.TAKEN, (old,))
        if self._fits(item.stream, room):
            self._append(ticket)
            return _TAKEN
        policy = self.overflow or BY_SOURCE[item.source]
        if policy == "block" and item.source is Source.MQTT_QOS1:
            self.blocked.add(item.stream if self._per_stream else "")
            return Offer(Admission.BLOCKED)
        if policy == "drop-oldest" and (evicted := self._evict(item.stream, room)):
            self._append(ticket)
            return Offer(Admission.TAKEN, evicted)
        return Offer(Admission.REFUSED)

    def oldest(self) -> Ticket | None:
        """The input whose turn is next."""
        return self._waiting.next()

    def take(self, most: int) -> list[Ticket]:
        """The next batch: at most `most` inputs that fit one message, or one larger input alone."""
        batch: list[Ticket] = []
        size = 0
        while (ticket := self._waiting.next()) is not None and len(batch) < most:
            following = len(ticket.item.payload)
            if batch and not inline_room(size + following, len(batch) + 1):
                break
            batch.append(self._waiting.take())
            ticket.taken = True
            size += following
        return batch

    def put_back(self, tickets: Iterable[Ticket]) -> None:
        """Returns tickets to the head, in their order; they may exceed the bounds. Settled ones stay out."""
        for ticket in reversed(list(tickets)):
            if not ticket.settled:
                self._waiting.put_back(ticket)

    def drain(self) -> list[Ticket]:
        """Everything that waits, taken out."""
        tickets = list(self._waiting)
        self._waiting.remove_all(set(map(id, tickets)))
        return tickets

    def has_room_again(self) -> bool:
        """True once after a BLOCKED offer, when there is room."""
        if not self.blocked or not any(self._fits(stream, 0) for stream in self.blocked):
            return False
        self.blocked.clear()
        return True

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
            ticket = heapq.heappop(self._deadlines)[2]
            due_s = _due_s(ticket)
            if due_s is not None and due_s <= now_s:
                late.append(ticket)
            else:  # it was to start by then, and has
                self._note_deadline(ticket)
        if late:
            self._waiting.remove_all(set(map(id, late)))
        return late

    def _fits(self, stream: str, room: int) -> bool:
        """Whether an input of `room` bytes may wait too; one alone always may."""
        waiting = self._waiting
        if not len(waiting):
            return True
        if waiting.bytes + room > BYTES:
            return False
        if self._turns is None or not self._per_stream:
            return len(waiting) < self.size
        line = self._turns.line(stream)
        if line is None:
            return self._turns.streams < STREAMS
        return len(line) < self.size and len(waiting) < self._shared

    def _append(self, ticket: Ticket) -> None:
        self._put(ticket)
        self._note_deadline(ticket)

    def _put(self, ticket: Ticket) -> None:
        if ticket.item.priority and isinstance(self._waiting, Line):
            self._waiting = Ranks(self._waiting)
        self._waiting.append(ticket)

    def _replaced(self, ticket: Ticket) -> Ticket | None:
        """The waiting input of the same stream, whose place `ticket` has taken; None when there is none, or no room."""
        turns = self._turns
        line = turns.line(ticket.item.stream) if turns is not None and ticket.item.stream else None
        if turns is None or line is None or turns.bytes - line.bytes + len(ticket.item.payload) > BYTES:
            return None
        self._note_deadline(ticket)
        return turns.replace(ticket)

    def _note_deadline(self, ticket: Ticket) -> None:
        due_s = _due_s(ticket)
        if due_s is not None:
            if len(self._deadlines) >= self._tidy_at:
                self._tidy()
            self._count += 1
            heapq.heappush(self._deadlines, (due_s, self._count, ticket))

    def _tidy(self) -> None:
        """Lets go of what was settled meanwhile, behind an earlier deadline too."""
        self._deadlines = [one for one in self._deadlines if not one[2].settled]
        heapq.heapify(self._deadlines)
        self._tidy_at = 2 * len(self._deadlines) + 8

    def _evict(self, stream: str, room: int) -> tuple[Ticket, ...]:
        """Makes room by dropping the oldest that may be: any when the configuration says so, else QoS 0 inputs.

        Of the same stream where its line is full, else of the stream that takes most room. None is dropped where
        that would not make enough of it.
        """
        evicted: list[Ticket] = []
        heaviest: Iterator[Ticket] | None = None
        while not self._fits(stream, room):
            line = self._turns.line(stream) if self._turns is not None and self._per_stream else None
            if line is None and self._turns is not None and self._turns.streams >= STREAMS:
                return ()  # to make an end of a stream it would take all that its line holds
            if line is not None and len(line) >= self.size:
                found = next(line.droppable(self._may_drop), None)
            else:
                heaviest = heaviest or self._waiting.droppable(self._may_drop)
                found = next(heaviest, None)
            if found is None:
                self.put_back(evicted)
                return ()
            self._waiting.remove(found)
            evicted.append(found)
        return tuple(evicted)

    def _may_drop(self, ticket: Ticket) -> bool:
        return self.overflow == "drop-oldest" or ticket.item.source is Source.MQTT_QOS0


def _due_s(ticket: Ticket) -> float | None:
    """When a ticket is late: past its deadline, or before that when its run should have begun and has not."""
    item = ticket.item
    if item.start_by_s is None or ticket.taken:
        return item.deadline_s
    return item.start_by_s if item.deadline_s is None else min(item.start_by_s, item.deadline_s)
