"""One model's way through rollout's table: whose task does what when, and what comes in between.

One task per model goes the way, so that its steps follow each other. What one step needs is in a module of its own:
obtaining, tryout, vigil, retreat. Orders change the record from outside, each time as a whole, and wake the task.
A store that cannot be written stops a trial and a switch; everything else goes on in memory, and the next write
catches up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from edged.config.schema import Model, Push
from edged.delivery import gate, rollout, verdicts
from edged.delivery.case import Case
from edged.delivery.documents import Trust
from edged.delivery.hand import Hand
from edged.delivery.ledger import Audit, Ledger, Publish, Pushed
from edged.delivery.line import Line
from edged.delivery.obtaining import Fleet
from edged.delivery.pursuit import Pursuit
from edged.delivery.record import Order, Phase, Record, Stored
from edged.delivery.renewal import Prepared, Renewal, perform, prepare
from edged.delivery.report import Course, Subject
from edged.delivery.retreat import Retreat, banned, undone_by
from edged.delivery.rollout import Action, Event
from edged.delivery.shelf import Shelf
from edged.delivery.store import Store
from edged.delivery.trust import counts
from edged.delivery.tryout import SUPERSEDED, Tryout
from edged.delivery.vigil import RECORD_EVERY_S, Vigil
from edged.delivery.want import Seen
from edged.errors import EdgedError, Fault, fault
from edged.serving.generation import Generation
from edged.serving.release import Release
from edged.serving.route import Route

HURRY: Final = fault("superseded", "an urgent want came while it was watched")
QUEUED: Final = "queued"  # a newer push waits for the end of this probation


class Waiting(msgspec.Struct, frozen=True):
    """A simple push for the task to take, and the order that was in force when it came."""

    pushed: Pushed
    before: Order | None


class Installation:
    """One model. `turn` is held by the one model that stages, tries and switches, `line` by the one that fetches."""

    def __init__(
        self,
        shelf: Shelf,
        store: Store,
        route: Route,
        settings: Push,
        *,
        turn: asyncio.Lock,
        line: Line,
        fleet: Fleet,
        publish: Publish,
        audit: Audit,
        clock: Callable[[], float],
    ) -> None:
        self._ledger: Final = Ledger(shelf, store, settings, publish, audit, fleet.standing)
        self._case: Final = Case(shelf, store, route, self._ledger, turn, clock)
        self._retreat: Final = Retreat(self._case)
        self._vigil: Final = Vigil(self._case, self._retreat)
        self._tryout: Final = Tryout(
            self._case,
            self._vigil,
            overtaken=self._overtaken,
            queued=self._queued,
            halted=self._halted,
            blocked=self._on_blocked,
        )
        self._pursuit: Final = Pursuit(self._case, fleet, line, self._tryout, self._meanwhile)
        self._waiting: Waiting | None = None
        self._renewal: Renewal | None = None
        self._undone_by = "a signed undo"
        self.hand: Final = Hand(self._case, self._retreat, self._pursuit, self._give_up)
        route.on_faulty = self._on_faulty

    async def open(self, record: Record) -> None:
        """Takes up what the store knows; afterwards `boot_release` says what to serve."""
        await self._ledger.open(record)

    def boot_release(self) -> Release | None:
        """None when the model waits for its first push, or `boot_fault` says why nothing can be served."""
        active = self._case.shelf.active(self._ledger.record)
        return self._case.shelf.release(active) if active else None

    @property
    def boot_fault(self) -> Fault | None:
        return self._ledger.fault

    # --- what comes from outside, in the loop -------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """Where the model stands now: what is `offered` is in no record."""
        return self._ledger.course.phase

    @property
    def record(self) -> Record:
        return self._ledger.record

    @property
    def waiting_bytes(self) -> int:
        """What a push that waits holds in memory."""
        return len(self._waiting.pushed.payload) if self._waiting else 0

    def status(self) -> dict[str, object]:
        return self._ledger.status()

    def reject(self, subject: Subject, problem: Fault, by: str = "") -> None:
        """Says no to a push that changes nothing here."""
        self._ledger.reject(subject, problem, by)

    def refuse(self, subject: Subject, problem: Fault, by: str, *, fresh: bool) -> None:
        """Says no to a document that is no order for this box; `fresh`: it has just been sent.

        Others may lie on the broker for ever: they hide no verdict.
        """
        tell = fresh or self._ledger.course.verdict is None
        self._ledger.reject(subject, problem, by, tell=tell)
        if not tell:
            self._ledger.look_over()

    def push(self, pushed: Pushed) -> None:
        """Takes a file: at once, after the probation under way, or in place of what is tried or fetched."""
        pinned = self._pinned()
        if pinned is not None:
            self.reject(pushed.subject, pinned)
            return
        if pushed.sha256 == (self._waiting.pushed.sha256 if self._waiting else self._under_way()):
            return  # QoS 1 may deliver it twice
        what = rollout.action(self.phase, Event.PUSHED)
        self._overtake_waiting()
        self._waiting = Waiting(pushed, self._ledger.record.order)
        if what is Action.STAGE:
            self._ledger.say(Course(Phase.OFFERED, pushed.subject))
        elif what is Action.QUEUE:
            self._ledger.say(msgspec.structs.replace(self._ledger.course, flags=self._queued()))
        self._give_up(SUPERSEDED)

    def _pinned(self) -> Fault | None:
        held = self._ledger.record.held
        return fault("pinned", held.told) if held and held.pinned else None

    def _overtake_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.reject(waiting.pushed.subject, SUPERSEDED)

    async def order(self, order: Order, seen: Seen, envelope: bytes = b"") -> None:
        """Takes an order; what is under way for another release is given up. Its fate is published.

        `envelope` is its release's, where that came with it.
        """
        self._overtake_waiting()
        await self._ledger.update(lambda now: rollout.ordered(now, order, seen))
        self._pursuit.begin((order.release, envelope) if envelope else None)
        candidate = self._ledger.record.candidate  # as it is now: a step may have ended while that was written
        if rollout.action(self.phase, Event.ORDERED) is Action.QUEUE:
            self._ledger.say(msgspec.structs.replace(self._ledger.course, flags=self._queued()))
        elif candidate is None or candidate.release != order.release:
            self._give_up(SUPERSEDED)
        self._case.wake.set()

    async def has_arrived(self) -> None:
        """A release brings this model, which the configuration does not name: a restart finds it again."""
        await self._ledger.update(lambda now: msgspec.structs.replace(now, arrived=True))

    async def note(self, seen: Seen) -> None:
        """A want that is not for this box was seen all the same."""
        await self._ledger.update(lambda now: rollout.noted(now, seen))

    async def known(self, document: str) -> None:
        """The newest want came again: where it ended because it was for other boxes, the box is one of them again."""
        record = self._ledger.record
        if record.order is not None and record.order.document == document and rollout.ended_by(record, verdicts.BY_BOX):
            await self._ledger.update(rollout.reopened)
            self._pursuit.begin()
            self._case.wake.set()

    async def undo(self, release: str, seen: Seen, by: str) -> None:
        """A signed undo: what is under way for this release is given up, and if it answers the box goes back."""
        why, order = undone_by(by), self._ledger.record.wanted
        await self._ledger.update(lambda now: rollout.leaving(now, release, seen, why))
        # The undo is the newest order, so that what is on its way to take the place of `release` ends as well.
        if order is not None and (order.release == release or self._ledger.record.leaves):
            self._ledger.decided("rejected", f"given up: {why.message}", why, order.version, "", by)
            self._give_up(why)
        self._undone_by = by
        self._case.wake.set()

    def _leave(self) -> None:
        """Goes back as a signed undo says, be it one that came before the daemon was started."""
        self._retreat.wanted(undone_by(self._undone_by), self._undone_by, None)

    async def trusted(self, trust: Trust) -> None:
        """Other rules hold: what they ban, or whose keys they drop, is not tried; what they ban does not answer.

        A want that ended because of the rules before is followed anew.
        """
        record = self._ledger.record
        candidate = record.candidate
        if candidate is not None and candidate.release in trust.banned:
            self._give_up(banned(trust.banned[candidate.release]))
        elif candidate is not None and candidate.signers and not counts(trust, "release", candidate.signers):
            self._give_up(fault("signature", "the keys that have signed the release count no more"))
        elif rollout.ended_by(record, verdicts.BY_TRUST) and record.order and record.order.release not in trust.banned:
            await self._ledger.update(rollout.reopened)
        self._ledger.look_over()  # its flags are by these rules
        self.look_again()

    def look_again(self) -> None:
        """Something has changed: what stood in an order's way may be gone."""
        self._pursuit.look_again()

    def look_over(self) -> None:
        """Publishes the status again where it has become another one."""
        self._ledger.look_over()

    def _give_up(self, why: Fault) -> None:
        if self._ledger.record.phase is Phase.TRIAL:
            self._tryout.cancel(why)
        else:
            self._pursuit.give_up(why)

    def _under_way(self) -> str:
        return "" if self.phase is Phase.IDLE else self._ledger.course.subject.sha256

    def _on_blocked(self, problem: Fault) -> None:
        self._pursuit.block(problem)

    def _overtaken(self, candidate: Stored) -> bool:
        wanted = self._ledger.record.wanted
        return self._waiting is not None or (wanted is not None and wanted.release != candidate.release)

    def _halted(self) -> Fault | None:
        wanted = self._ledger.record.wanted
        return gate.paused(wanted) if wanted is not None else None

    def _queued(self) -> tuple[str, ...]:
        record = self._ledger.record
        wanted = record.wanted
        other = wanted is not None and (record.active is None or record.active.release != wanted.release)
        return (QUEUED,) if self._waiting is not None or other else ()

    # --- other settings -------------------------------------------------------------------------------

    async def is_outdated(self) -> bool:
        """Whether the factory model answers, or would, and its file holds something else by now."""
        return await self._case.shelf.is_outdated(self._ledger.record)

    async def prepare(self, settings: Model) -> Prepared:
        """Makes ready what other settings need, and changes nothing. Raises EdgedError."""
        return await prepare(self._case.route, self._case.shelf, self._ledger.record, settings)

    async def renew(self, prepared: Prepared, cut: Callable[[], None]) -> None:
        """Makes it take effect when no trial is under way, with `cut`. Raises EdgedError when it cannot."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._renewal = Renewal(prepared, cut, done)
        self._case.wake.set()
        await done  # `stop` cancels it

    def adopt(self, settings: Push) -> None:
        """Other settings for the next push."""
        self._ledger.settings = settings
        self._ledger.look_over()
        self.look_again()

    def _on_faulty(self, generation: Generation, problem: Fault) -> bool:
        """The route asks whether a model whose process ends again and again is replaced from here."""
        record = self._ledger.record
        if record.phase is not Phase.PROBATION or not self._case.shelf.has_way_back(record):
            return False
        if record.active is None or generation.release.sha256 != record.active.sha256:
            return False
        self._vigil.faulty = fault("probation_crash", problem.message)
        self._case.wake.set()
        return True

    # --- the walk -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Does what the phase asks for, again and again, until it is cancelled."""
        self._ledger.rest()
        while True:
            record = self._ledger.record
            if self._retreat.must_leave:
                self._leave()
            elif self._hurries():
                self._retreat.wanted(HURRY, record.order.by if record.order else "", None)
            if self._renewal is not None and record.phase is not Phase.TRIAL:
                await self._renew()
            elif record.phase is Phase.PROBATION:
                await self._vigil.keep(self._interrupted)
            elif record.phase is Phase.TRIAL:
                async with self._case.turn:
                    await self._tryout.run()
            elif (problem := self._retreat.banned()) is not None:
                await self._retreat.because(problem)
            elif record.phase is Phase.DOWNLOADING and record.candidate is not None:
                await self._pursuit.fetch(record.candidate)
            elif record.phase is Phase.VERIFIED:
                await self._pursuit.hold()
            elif self._retreat.wish is not None:
                await self._retreat.as_wished()
            elif self._waiting is not None:
                await self._take()
            elif (order := record.wanted) is not None:
                await self._pursuit.follow(order)
            else:
                self._case.wake.clear()
                if self._ledger.course.waiting is not None:  # for an order that counts no more
                    self._ledger.rest()
                await self._case.pause(RECORD_EVERY_S if self._ledger.behind or record.leaves else None)
                if self._ledger.behind:
                    await self._ledger.note()

    def _interrupted(self) -> bool:
        """Whether something comes before the watch over a release."""
        return self._renewal is not None or self._retreat.must_leave or self._hurries()

    def _hurries(self) -> bool:
        """Whether an urgent want does not wait for the end of a probation: the box goes back to what it trusted."""
        record = self._ledger.record
        order, active = record.wanted, record.active
        if record.phase is not Phase.PROBATION or self._retreat.wish is not None or order is None or active is None:
            return False
        urgent = order.want is not None and order.want.urgent and order.release != active.release
        way_back = self._case.shelf.has_way_back(record) and active.key != self._retreat.no_way_from
        return urgent and way_back and self._pursuit.may_begin(order)

    async def stop(self) -> None:
        """After `run` was cancelled: a clean stop costs no attempt."""
        self._retreat.answer(EdgedError("stopping", "the daemon stops"))
        if self._renewal is not None:
            self._renewal.done.cancel()
        if self._ledger.record.phase is not Phase.IDLE or self._ledger.behind:
            await self._ledger.update(rollout.stopped)

    async def _meanwhile(self) -> None:
        """What must not wait for the end of a download."""
        await self._renew()
        problem = self._retreat.banned()
        if problem is not None:
            await self._retreat.because(problem)

    async def _renew(self) -> None:
        if self._renewal is not None:
            await perform(self._case.route, self._case.shelf, self._ledger.record, self._renewal)
            self._renewal = None
            self._ledger.say(self._ledger.course)

    async def _take(self) -> None:
        async with self._case.turn:
            waiting, self._waiting = self._waiting, None
            pinned = self._pinned()
            if waiting is not None and pinned is not None:  # since it came
                self._ledger.rest()
                self.reject(waiting.pushed.subject, pinned)
            elif waiting is not None:
                await self._pursuit.stage(waiting.pushed, waiting.before)
                await self._tryout.run()
