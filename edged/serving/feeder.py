"""One model's inputs: from its lane in batches through the generation in use, each settled once.

- At most two batches are in flight; with nothing waiting there is no added delay.
- Suspects of a death run before everything else, one at a time, with nothing else in flight (RULES 13).
- While paused nothing is sent; `on_idle` tells when nothing is in flight (RULES 15).
- A ticket is settled once; an answer that comes after its deadline is counted as `late` (RULES 14). A reply that raises
  harms nobody else.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from edged.channel import Answers, InputHead
from edged.config.schema import Model
from edged.errors import Fault, fault
from edged.messages import Admission, Answer, Input, Outcome
from edged.observe.executions import Ran
from edged.serving.generation import Generation
from edged.serving.lane import Lane
from edged.serving.observer import Observer
from edged.serving.recent import MOST, Recent
from edged.serving.terms import Terms
from edged.serving.turns import Ticket

IN_FLIGHT: Final = 2
_LABEL: Final = 64  # characters of a content type: senders may write 64 KiB, and a head has to fit its message

log = logging.getLogger("edged.serving")


class Feeder:
    """The inputs of one model."""

    def __init__(self, settings: Model, observer: Observer, *, record: bool) -> None:
        self.lane = Lane(settings.queue.size, settings.queue.overflow, settings.queue.per)
        self.on_idle: Callable[[], None] = lambda: None
        self.on_room: Callable[[str], None] = lambda _model: None
        self.version = ""
        self._settings = settings
        self._observer = observer
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._generation: Generation | None = None
        self._paused = False
        self._suspects: collections.deque[Ticket] = collections.deque()
        self._running: collections.deque[list[Ticket]] = collections.deque()
        self._recent = Recent()
        self._deadline: asyncio.Handle | None = None  # of uvloop's none says when: what is due is no timer there
        self._deadline_s = 0.0
        self._linger: asyncio.TimerHandle | None = None
        self._turn: asyncio.Handle | None = None
        self._crowded = False  # the last batch had more than one input: others are on their way

    @property
    def idle(self) -> bool:
        """Nothing in flight."""
        return not self._running

    @property
    def empty(self) -> bool:
        """Nothing in flight and nothing waiting."""
        return not (self._running or self._suspects or len(self.lane))

    def offer(self, item: Input) -> Admission:
        """Takes an input, refuses it when the queue is full (its reply is called), or asks to wait."""
        offer = self.lane.offer(Ticket(item))
        code = "replaced" if self.lane.overflow == "latest" else "queue_full"
        for evicted in offer.evicted:
            self._drop(evicted, fault(code, "a newer input took its place in the queue"))
        if offer.admission is Admission.REFUSED:
            return self.refuse(item, fault("queue_full", f"{self.lane.size} inputs are waiting already"))
        if offer.admission is Admission.TAKEN:
            self._arm_deadline()
            self._dispatch_in_turn()
        return offer.admission

    def refuse(self, item: Input, problem: Fault) -> Admission:
        """Answers an input that was never admitted."""
        self._drop(Ticket(item), problem)
        return Admission.REFUSED

    def adopt(self, terms: Terms) -> None:
        """Other settings from now on; what waits or runs keeps the form it came with, under its new number."""
        self._settings = terms.settings
        queue = terms.settings.queue
        self.lane = self.lane.adopted(queue.size, queue.overflow, queue.per)
        self.on_room(terms.settings.name)  # what waits for room asks again, whatever it was told
        if terms.moved == tuple(range(len(terms.moved))):
            return
        running = [ticket for batch in self._running for ticket in batch]
        for ticket in [*running, *self._suspects, *self.lane]:
            if not ticket.settled:
                ticket.item = terms.renumbered(ticket.item)
        self._recent = Recent()  # their numbers are of another day

    def use(self, generation: Generation | None) -> None:
        """Feeds `generation` from now on; None = nobody for now."""
        self._generation = generation
        self._paused = False
        if generation is not None:
            self.version = generation.release.version
        self._dispatch()

    def pause(self) -> None:
        """Sends nothing more until `use`; `on_idle` is called when nothing is in flight."""
        self._paused = True

    def lost(self, *, in_probe: bool, reason: Fault | None) -> bool:
        """The generation in use has died: takes its batches back. True when a poison input was found.

        The oldest batch is suspect, unless the process died in a probe that was sent before it.
        """
        self._generation = None
        batches, poison = list(self._running), False
        alone = self._suspect_runs()
        self._running.clear()
        if batches and not in_probe:
            poison = self._suspect(batches.pop(0), reason)
        elif alone:
            self._suspects.extendleft(batches.pop(0))
        for batch in reversed(batches):
            self.lane.put_back(batch)
        return poison

    def record(self, *, on: bool) -> None:
        """Whether inputs are kept for a trial; those that were kept are forgotten when not."""
        self._record = on
        if not on:
            self._recent = Recent()

    def sampled(self, head: InputHead, payload: bytes) -> None:
        """An input that was answered without coming by here is one to try a model on, too."""
        if self._record:
            self._recent.add(head, payload)

    def recent(self) -> list[tuple[InputHead, bytes]]:
        """The last real inputs that were answered, newest last: at most 16 and 4 MiB; none when not to `record`."""
        return self._recent.newest_last()

    def abandon(self, problem: Fault) -> None:
        """Answers everything that runs or waits with `problem`; from then on nothing is in flight."""
        running = [ticket for batch in self._running for ticket in batch]
        self._running.clear()
        for ticket in [*running, *self._suspects, *self.lane.drain()]:
            if not ticket.settled:
                self._drop(ticket, problem)
        self._suspects.clear()
        self._tell_of_room()

    # --- batches ------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        generation = self._generation
        # A probe that is under way is not waited for: the process runs one message after the other, and its death
        # is laid on the oldest of them.
        while generation is not None and not self._paused and len(self._running) < IN_FLIGHT:
            if self._suspects:
                if self._running or not self._send(generation, [self._suspects.popleft()], alone=True):
                    break
            elif self._suspect_runs() or self._lingers(generation):
                break
            else:
                batch = self.lane.take(generation.batch_max)
                if not batch or not self._send(generation, batch, alone=False):
                    break
        if self.lane.blocked:
            self._tell_of_room()

    def _dispatch_in_turn(self) -> None:
        """At once when nothing runs and inputs come one by one; else behind what this turn of the loop still brings.

        So it shares a batch: with four in flight a tiny request costs two thirds of what it does when the first always
        goes alone and the other three behind it.
        """
        if not (self._running or self._crowded):
            self._dispatch()
        elif len(self._running) < IN_FLIGHT and self._turn is None:
            self._turn = self._loop.call_soon(self._turn_over)

    def _turn_over(self) -> None:
        self._turn = None
        self._dispatch()

    def _tell_of_room(self) -> None:
        if self.lane.has_room_again():
            self.on_room(self._settings.name)

    def _suspect_runs(self) -> bool:
        return bool(self._running) and self._running[0][0].retried  # a suspect runs alone

    def _send(self, generation: Generation, batch: list[Ticket], *, alone: bool) -> bool:
        """Sends a batch; False when the channel takes no more just now, the batch back in its place."""
        now_s = time.monotonic()
        asked, batch, heads, payloads = batch, [], [], []
        for ticket in asked:
            item = ticket.item
            if not ticket.settled and (item.max_age_s is None or not self._too_old(ticket, now_s)):
                batch.append(ticket)
                heads.append(_asked(item, now_s))
                payloads.append(item.payload)
        if not batch:
            return True
        try:
            sent = generation.submit(heads, payloads, partial(self._done, generation, batch, now_s))
        except OSError as error:  # no descriptor or no memory left for the payloads of this batch
            for ticket in batch:
                self._drop(ticket, fault("over_memory", f"the box has no room to hand the input on: {error.strerror}"))
            return True
        if not sent:
            if alone:
                self._suspects.extendleft(batch)
            else:
                self.lane.put_back(batch)
            generation.when_writable(self._dispatch)
            return False
        self._running.append(batch)
        self._crowded = len(batch) > 1
        return True

    def _too_old(self, ticket: Ticket, now_s: float) -> bool:
        """Whether an input has waited longer than its max_age; then its sender is told so."""
        limit_s = ticket.item.max_age_s
        if limit_s is None or now_s - ticket.item.arrived_s <= limit_s:
            return False
        self._drop(ticket, fault("too_old", f"it has waited longer than {limit_s:g} s"))
        return True

    def _lingers(self, generation: Generation) -> bool:
        """With `batch.wait`: gives a batch time to fill, counted from its oldest input."""
        wait_s = generation.release.under(self._settings).batch.wait
        if wait_s <= 0:
            return False
        oldest = self.lane.oldest()
        if oldest is None or len(self.lane) >= generation.batch_max:
            return False
        left_s = oldest.item.arrived_s + wait_s - time.monotonic()
        if left_s <= 0:
            return False
        if self._linger is None:
            self._linger = self._loop.call_later(left_s, self._waited)
        return True

    def _waited(self) -> None:
        self._linger = None
        self._dispatch()

    def _done(
        self, generation: Generation, batch: list[Ticket], sent_s: float, answers: Answers | None, payload: memoryview
    ) -> None:
        if answers is None or not self._running or self._running[0] is not batch:
            return  # `lost` deals with all batches of a dead generation, in order; what was abandoned is nobody's
        self._running.popleft()
        tally, version = generation.tally, generation.release.version
        now_s = time.monotonic()
        tally.cpu_s.append(answers.cpu_ns / 1e9 / len(batch))
        tally.runs += len(batch)
        if self._record:
            self._remember(batch, answers)
        answered, waited_s, end = 0, 0.0, 0
        for ticket, head in zip(batch, answers.heads, strict=True):
            start, end = end, end + head.size
            tally.faults += head.own
            tally.nonfinite += head.nonfinite
            outcome: Outcome
            if head.fault is None:
                part, copy = (payload[start:end], b"") if not head.copy else _apart(payload[start:end], head.copy)
                outcome = Answer(
                    bytes(part), head.json_length, version, head.ts_ms, head.nonfinite, ticket.retried, copy
                )
                if not ticket.settled:
                    answered += 1
                    waited_s += sent_s - ticket.item.arrived_s
            else:
                outcome = head.fault
                if head.fault.code == "too_old":
                    self._observer.dropped(self._settings.name, "too_old")
            self._settle(ticket, outcome, version, now_s)
        spent_ns = answers.decode_ns, answers.run_ns, answers.encode_ns
        self._observer.ran(self._settings.name, version, Ran(answered, waited_s, spent_ns, answers.rows))
        if self._paused and not self._running:
            self.on_idle()
        self._dispatch()

    def _remember(self, batch: list[Ticket], answers: Answers) -> None:
        """Before they are settled: from then on a payload may be its sender's again, and other bytes."""
        for ticket, head in zip(batch[-MOST:], answers.heads[-MOST:], strict=True):
            if head.fault is None and not ticket.settled:
                self._recent.add(_head(ticket.item), ticket.item.payload)

    def _suspect(self, batch: list[Ticket], reason: Fault | None) -> bool:
        """Puts a batch under suspicion; True when it was one suspect, alone: poison."""
        open_tickets = [ticket for ticket in batch if not ticket.settled]
        if len(open_tickets) == 1 and open_tickets[0].retried:
            how = f": {reason.message}" if reason is not None else ""
            problem = fault("poison_input", f"this input ended the model's process twice{how}")
            log.error("%s", problem.message, extra={"model": self._settings.name, "code": problem.code})
            self._drop(open_tickets[0], problem)
            return True
        for ticket in open_tickets:
            ticket.retried = True
        self._suspects.extendleft(reversed(open_tickets))
        return False

    # --- outcomes -----------------------------------------------------------------------------------

    def _settle(self, ticket: Ticket, outcome: Outcome, version: str, now_s: float) -> None:
        if ticket.settled:
            self._observer.dropped(self._settings.name, "late")
            return
        item = ticket.settle()
        code = outcome.code if isinstance(outcome, Fault) else "ok"
        self._observer.answered(self._settings.name, version, code, now_s - item.arrived_s)
        try:
            item.reply(outcome)
        except Exception:  # the boundary of RULES 23: whatever its transport did wrong, others wait behind it
            log.exception("an outcome could not be handed on", extra={"model": self._settings.name, "code": "internal"})
            self._observer.fault("reply")

    def _drop(self, ticket: Ticket, problem: Fault) -> None:
        self._observer.dropped(self._settings.name, problem.code)
        self._settle(ticket, problem, self.version, time.monotonic())

    def _arm_deadline(self) -> None:
        deadline_s = self.lane.next_deadline_s()
        if deadline_s is None or (self._deadline is not None and self._deadline_s <= deadline_s):
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline, self._deadline_s = self._loop.call_at(deadline_s, self._expire), deadline_s

    def _expire(self) -> None:
        self._deadline = None
        for ticket in self.lane.expire(time.monotonic()):
            self._drop(ticket, fault("deadline", "the deadline passed before the answer"))
        self._arm_deadline()
        self._dispatch()  # a place in the queue may be free again


def _head(item: Input) -> InputHead:
    return InputHead(len(item.payload), item.form, item.content_type[:_LABEL], item.json_length, item.binary, item.id)


def _apart(part: memoryview, copy: int) -> tuple[memoryview, bytes | None]:
    """An answer and its copy: None where the worker had no room for it, or makes no sense."""
    return (part[:-copy], bytes(part[-copy:])) if 0 < copy <= len(part) else (part, None)


def _asked(item: Input, now_s: float) -> InputHead:
    """The head of an input that is run for its sender, unlike one of a trial: age, copy and memory."""
    oldest_ms = 0
    if item.max_age_s is not None and item.stamped:
        oldest_ms = max(item.arrived_ms + round((now_s - item.arrived_s - item.max_age_s) * 1000), 0)
    return InputHead(
        len(item.payload),
        item.form,
        item.content_type[:_LABEL],
        item.json_length,
        item.binary,
        item.id,
        oldest_ms,
        item.copy,
        item.memory,
    )
