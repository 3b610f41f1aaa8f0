"""The trial of a candidate that is on the disk, and the switch to it: performed, recorded, told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from edged.delivery import rollout
from edged.delivery.case import Case
from edged.delivery.examiner import UNLIMITED, Examined, examine
from edged.delivery.ledger import unwritable
from edged.delivery.record import Phase, Stored
from edged.delivery.trial import Judgement
from edged.delivery.vigil import Vigil
from edged.delivery.watch import baseline
from edged.errors import EdgedError, Fault, fault
from edged.serving.generation import Generation

LIVE_WAIT_S: Final = 30.0  # right after a start, for the live model to be there to compare with

SUPERSEDED: Final = fault("superseded", "a newer push took its place")


class Tryout:
    """`overtaken(candidate)`: whether something newer waits; `queued()`: the flags that say so during probation.

    `halted()` is why what has passed may not switch; `blocked(problem)` hears why an order does not go on now.
    """

    def __init__(
        self,
        case: Case,
        vigil: Vigil,
        *,
        overtaken: Callable[[Stored], bool],
        queued: Callable[[], tuple[str, ...]],
        halted: Callable[[], Fault | None],
        blocked: Callable[[Fault], None],
    ) -> None:
        self._case: Final = case
        self._vigil: Final = vigil
        self._overtaken: Final = overtaken
        self._queued: Final = queued
        self._halted: Final = halted
        self._blocked: Final = blocked
        self._examination: asyncio.Task[Examined] | None = None
        self._given_up: Fault | None = None

    def cancel(self, why: Fault) -> None:
        """The trial under way, or the next one, is given up."""
        self._given_up = why
        if self._examination is not None:
            self._examination.cancel()

    async def run(self) -> None:
        """Tries what the record names. Returns when it has failed, or answers on probation."""
        ledger = self._case.ledger
        candidate = ledger.record.candidate
        if candidate is None:
            return
        if self._overtaken(candidate):  # while this one was being stored
            self._given_up = SUPERSEDED
        problem = await self._case.shelf.trouble(candidate)
        if problem is not None:
            await self.failed(problem)
            return
        examined = await self._examined(candidate)
        why, self._given_up = self._given_up, None
        if examined is None:
            await self.failed(why or SUPERSEDED)
            return
        judgement = examined.judgement
        ledger.course = msgspec.structs.replace(ledger.course, figures=judgement.figures)
        if judgement.fault is not None and judgement.fault.code == "no_space":
            await self._cannot(judgement.fault)
        elif judgement.fault is not None:
            await self.failed(judgement.fault, judgement.flags)
        elif examined.candidate is not None:
            halted = self._halted()
            if why is None and halted is None:
                await self._switch(examined.candidate, judgement)
                return
            await self._case.route.retire(examined.candidate)
            if why is not None:  # it had passed in that moment
                await self.failed(why)
            elif halted is not None:
                await self._cannot(halted)

    async def _examined(self, candidate: Stored) -> Examined | None:
        """What came of it; None when it was given up."""
        self._examination = asyncio.create_task(self._examine(candidate))
        if self._given_up is not None:
            self._examination.cancel()
        try:
            await asyncio.wait({self._examination})
            return None if self._examination.cancelled() else self._examination.result()
        finally:
            examination, self._examination = self._examination, None
            examination.cancel()
            await asyncio.gather(examination, return_exceptions=True)

    async def _examine(self, candidate: Stored) -> Examined:
        case, route = self._case, self._case.route
        until_s = case.clock() + LIVE_WAIT_S
        while route.live is None and not (route.fault or route.unloaded) and case.shelf.active(case.ledger.record):
            if case.clock() > until_s:
                break
            await asyncio.sleep(0.05)
        factor = float(case.ledger.settings.probation.max_latency)
        release, document = case.shelf.release(candidate), case.shelf.document(candidate)
        golden, limits = (document.golden, document.limits) if document else (None, UNLIMITED)
        return await examine(route, release, factor=factor, clock=case.clock, golden=golden, limits=limits)

    async def failed(self, problem: Fault, flags: tuple[str, ...] = ()) -> None:
        """The candidate is given up: recorded, its process and its files go."""
        ledger = self._case.ledger
        tried = ledger.record.phase is Phase.TRIAL
        text = f"the trial failed: {problem.message}" if tried else f"given up: {problem.message}"
        ledger.decided("failed", text, problem)
        await ledger.update(lambda record: rollout.failed(record, problem, flags))
        self._given_up = None  # what came up to now was about this one, not about the next trial
        self._case.route.resume()
        await asyncio.to_thread(self._case.store.prune)
        ledger.rest()

    async def _cannot(self, problem: Fault) -> None:
        """What stands in the way passes: an order is followed again later, a push is not."""
        ledger, why = self._case.ledger, self._given_up
        if why is not None or ledger.record.wanted is None:
            await self.failed(why or problem)
            return
        ledger.decided("blocked", f"cannot be tried now: {problem.message}", problem)
        await ledger.update(rollout.blocked)
        self._case.route.resume()
        ledger.course = msgspec.structs.replace(ledger.course, phase=ledger.record.phase)
        self._blocked(problem)

    async def _switch(self, candidate: Generation, judgement: Judgement) -> None:
        """The commit point, then the switch."""
        case, ledger = self._case, self._case.ledger
        before = baseline(case.route.live, judgement.live_cpu_s)
        was = case.shelf.active(ledger.record)
        try:
            await ledger.commit(lambda record: rollout.passed(record, was, before, judgement.flags))
        except OSError as error:
            await case.route.retire(candidate)
            await self._cannot(unwritable(error))
            return
        self._given_up = None  # what came since is not about the next trial, but for the end of this probation
        self._vigil.begin()
        ledger.say(msgspec.structs.replace(ledger.course, phase=Phase.PROBATION, flags=self._queued()))
        try:
            await case.route.switch(candidate)
        except EdgedError as error:
            self._vigil.faulty = fault("probation_crash", error.fault.message)
        else:
            ledger.decided("switched", f"version {candidate.release.version} answers now, on probation")
