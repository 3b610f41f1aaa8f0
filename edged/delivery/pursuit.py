"""Follows the order in force: its release is looked up, fetched, and waits on the disk until its time has come.

Whatever stands in the way only for now is told as `waiting` and looked at again; the rest is a verdict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec

from edged.delivery import gate, rollout
from edged.delivery.case import Case
from edged.delivery.gate import Moment
from edged.delivery.ledger import Pushed, again, unwritable
from edged.delivery.line import Line
from edged.delivery.obtaining import Fleet, Obtaining
from edged.delivery.record import Order, Phase, Stored, Verdict
from edged.delivery.report import DOWNLOADED, Course, Subject
from edged.delivery.rollout import Event
from edged.delivery.tryout import SUPERSEDED, Tryout
from edged.errors import EdgedError, Fault, fault

AGAIN_S: Final = 60.0  # what stands in an order's way is looked at again
_SOON_S: Final = 1.0  # and a time that comes by itself
NOT_MEANT: Final = fault("not_meant", "the box is not among those that the order is for any more")


class Pursuit:
    """`meanwhile` is called while something goes on that may take hours: for what must not wait for it."""

    def __init__(
        self, case: Case, fleet: Fleet, line: Line, tryout: Tryout, meanwhile: Callable[[], Awaitable[None]]
    ) -> None:
        self._case: Final = case
        self._ledger: Final = case.ledger
        self._fleet: Final = fleet
        self._obtaining: Final = Obtaining(case, fleet, line)
        self._tryout: Final = tryout
        self._meanwhile: Final = meanwhile
        self._step: asyncio.Task[None] | None = None
        self._given_up: Fault | None = None
        self._blocked: Fault | None = None  # why the last try to fetch did not go on
        self._again_s = 0.0
        self._ordered_s = case.clock()

    async def stage(self, pushed: Pushed, before: Order | None) -> None:
        """A pushed file onto the disk; see obtaining.py."""
        await self._obtaining.stage(pushed, before)

    def begin(self, given: tuple[str, bytes] | None = None) -> None:
        """Another order is in force; `given` is the envelope of its release where that came with it."""
        self._obtaining.given = given or ("", b"")
        self._ordered_s, self._blocked = self._case.clock(), None

    def block(self, problem: Fault) -> None:
        """Something stands in the way, and is looked at again in a while."""
        self._blocked, self._again_s = problem, self._case.clock() + AGAIN_S

    def look_again(self) -> None:
        """What stood in the way may be gone, and so may the box from those that the order is for."""
        self._blocked = None
        order = self._ledger.record.wanted
        if self.under_way and order is not None and not self._fleet.means(order):
            self.give_up(NOT_MEANT)
        self._case.wake.set()

    @property
    def under_way(self) -> bool:
        """Whether something is looked up or fetched, which can be given up."""
        return self._step is not None

    def give_up(self, why: Fault) -> None:
        """What is under way is given up; nothing is, unless something is looked up, fetched or waits."""
        if self._step is not None:
            self._given_up = why
            self._step.cancel()
        elif self._ledger.record.phase in {Phase.DOWNLOADING, Phase.VERIFIED}:
            self._given_up = why
        self._case.wake.set()

    def may_begin(self, order: Order) -> bool:
        """Whether nothing that is known by now keeps it from being tried."""
        record = self._ledger.record
        if order.release in record.blacklist or self._case.shelf.banned(order.release) is not None:
            return False
        if not self._fleet.means(order):
            return False
        return not gate.only_fetched(order) and gate.before_trial(order, record.held, self._moment(order)) is None

    async def follow(self, order: Order) -> None:
        """An order in force, and nothing under way: it has its verdict already, waits, or is looked up."""
        record = self._ledger.record
        active = self._case.shelf.active(record)
        known = record.blacklist.get(order.release)
        if active is not None and active.release == order.release:
            await self._answered(Verdict("active", active.version, active.sha256, None, (), order.release))
        elif known is not None:
            await self._answered(Verdict("rejected", order.version, "", again(known), (), order.release))
        elif not self._fleet.means(order):
            await self._answered(Verdict("rejected", order.version, "", NOT_MEANT, (), order.release))
        elif not await self._blocked_by(gate.before_fetch(order, record.held, self._moment(order))):
            await self._cancellable(self._obtaining.look_up(order))

    async def _answered(self, verdict: Verdict) -> None:
        problem = verdict.fault
        if problem is not None:
            text = f"release refused: {problem.message}"
            self._ledger.decided("rejected", text, problem, verdict.version, verdict.sha256)
        await self._ledger.update(lambda record: rollout.answered(record, verdict))
        self._ledger.rest()

    async def fetch(self, candidate: Stored) -> None:
        """The order in force is approved: its files are fetched."""
        order, why = self._ledger.record.order, self._given_up
        self._given_up = None
        if order is not None and not self._fleet.means(order):
            why = why or NOT_MEANT
        if why is not None or order is None or order.release != candidate.release:
            await self._tryout.failed(why or SUPERSEDED)
            return
        await self._cancellable(self._obtaining.fetch(order, candidate))

    async def hold(self) -> None:
        """The candidate is on the disk: waits for its time."""
        record, why = self._ledger.record, self._given_up
        order, candidate, self._given_up = record.wanted, record.candidate, None
        if order is not None and not self._fleet.means(order):
            why = why or NOT_MEANT
        if why is not None or order is None or candidate is None or order.release != candidate.release:
            await self._tryout.failed(why or SUPERSEDED)
            return
        self._case.wake.clear()
        if gate.only_fetched(order):
            self._ledger.say(msgspec.structs.replace(self._ledger.course, waiting=None, flags=(DOWNLOADED,)))
            await self._case.pause(None)
            return
        if await self._blocked_by(gate.before_trial(order, self._ledger.record.held, self._moment(order))):
            return
        try:
            await self._ledger.commit(rollout.due)
        except OSError as error:
            self.block(unwritable(error))
        else:
            self._ledger.say(msgspec.structs.replace(self._ledger.course, phase=Phase.TRIAL, waiting=None, flags=()))
            why, self._given_up = self._given_up, None
            if why is not None:  # in the meantime
                self._tryout.cancel(why)

    async def _blocked_by(self, problem: Fault | None) -> bool:
        """Whether something stands in the way: told, and waited for a while."""
        if problem is None and self._blocked is not None and self._case.clock() < self._again_s:
            problem = self._blocked
        if problem is None:
            return False
        self._case.wake.clear()
        course = self._ledger.course
        order = self._ledger.record.wanted
        if course.phase is Phase.IDLE and order is not None:
            course = Course(Phase.IDLE, Subject("", order.version, 0, order.release))
        if course.waiting is None or course.waiting.code != problem.code or course != self._ledger.course:
            self._ledger.say(msgspec.structs.replace(course, waiting=problem, verdict=None))
        await self._case.pause(_SOON_S if problem.code == "not_now" else AGAIN_S)
        return True

    async def _cancellable(self, work: Coroutine[Any, Any, None]) -> None:
        """Does it until it is done, given up, or cannot go on; what must not wait for it is done meanwhile."""
        self._step = step = asyncio.get_running_loop().create_task(work)
        woken: asyncio.Task[bool] | None = None
        try:
            while not step.done():
                self._case.wake.clear()
                woken = asyncio.ensure_future(self._case.wake.wait())
                await asyncio.wait({step, woken}, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
                await self._meanwhile()
        finally:
            self._step = None
            if woken is not None:
                woken.cancel()
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
        error = None if step.cancelled() else step.exception()
        if error is None and not step.cancelled():
            self._blocked = None
            if self._ledger.record.candidate is None:
                self._given_up = None  # else what was given up at its very end is the next step's to drop
            return
        why, self._given_up = self._given_up, None
        if error is None:
            await self._gave_up(why or SUPERSEDED)
        elif isinstance(error, EdgedError):
            await self._cannot(error.fault)
        elif isinstance(error, OSError):
            await self._cannot(unwritable(error))
        else:
            raise error

    async def _gave_up(self, why: Fault) -> None:
        if self._ledger.record.candidate is not None:
            await self._tryout.failed(why)
        else:
            self._ledger.rest()

    async def _cannot(self, problem: Fault) -> None:
        """What was begun does not go on: a verdict, or something that passes."""
        if problem.code not in ("no_space", "bad_store"):
            await self._tryout.failed(problem)
            return
        self.block(problem)
        self._ledger.decided("blocked", f"cannot be fetched now: {problem.message}", problem)
        if self._ledger.record.phase is Phase.DOWNLOADING:
            await self._ledger.update(rollout.blocked)
            await asyncio.to_thread(self._case.store.prune)
            self._ledger.course = msgspec.structs.replace(self._ledger.course, phase=Phase.IDLE)
        else:
            phase = rollout.target(Phase.OFFERED, Event.BLOCKED)
            self._ledger.course = msgspec.structs.replace(self._ledger.course, phase=phase)
        self._ledger.say(msgspec.structs.replace(self._ledger.course, waiting=problem))

    def _moment(self, order: Order) -> Moment:
        return self._fleet.moment(order, self._case.clock() - self._ordered_s, self._ledger.settings)
