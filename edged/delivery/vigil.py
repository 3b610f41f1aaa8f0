"""Watches over a release on probation: it is kept, or goes back, as probation.py judges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from edged.delivery import probation
from edged.delivery.case import Case
from edged.delivery.retreat import Retreat
from edged.delivery.watch import Watch
from edged.errors import Fault

TICK_S: Final = 1.0
RECORD_EVERY_S: Final = 10.0  # so that a restart knows how much of a probation is left; a failed write is tried again


class Vigil:
    """`faulty` is what somebody else found wrong with the release that answers."""

    def __init__(self, case: Case, retreat: Retreat) -> None:
        self._case: Final = case
        self._retreat: Final = retreat
        self._watch: Watch | None = None
        self.faulty: Fault | None = None

    def begin(self) -> None:
        """Another release answers."""
        self._watch = self.faulty = None

    async def keep(self, interrupted: Callable[[], bool]) -> None:
        """Until the probation has ended, or `interrupted` says so at one of the wake-ups."""
        case, ledger = self._case, self._case.ledger
        settings = probation.overlaid(ledger.settings.probation, ledger.record.watching)
        watch = self._watch = self._watch or Watch(ledger.record.watched, case.clock)
        tick_s = min(TICK_S, max(0.02, settings.time / 10))
        noted_s = case.clock()
        while True:
            case.wake.clear()
            if interrupted():
                return
            if self._retreat.wish is not None:
                await self._retreat.as_wished()
                return
            watched, cpu_s = watch.look(case.route.live)
            ledger.record = msgspec.structs.replace(ledger.record, watched=watched)
            problem = self.faulty or self._retreat.banned()
            problem = problem or (case.route.fault if case.route.live is None else None)
            problem = problem or probation.faulty(settings, watched, ledger.record.baseline, cpu_s)
            if problem is not None:
                self.faulty = None
                await self._retreat.because(problem)
                return
            done, flags = probation.complete(settings, watched)
            if done:
                await self._retreat.keep(flags)
                return
            if case.clock() - noted_s >= RECORD_EVERY_S:
                noted_s = case.clock()
                await ledger.note()
                ledger.say(ledger.course)
            await case.pause(tick_s)
