"""The way back to an earlier release: because of a fault, because somebody wants it, and who is told how it went."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from edged.delivery import rollout
from edged.delivery.case import Case
from edged.delivery.ledger import unwritable
from edged.delivery.record import Held, Phase, Stored
from edged.delivery.reversal import put_live, ready, retire_previous
from edged.errors import EdgedError, Fault, fault
from edged.serving.generation import Generation
from edged.serving.release import Release

NO_PREVIOUS: Final = "no_previous"  # it failed its probation, and there was nothing to go back to
AGAIN_S: Final = 60.0  # what there was no memory for is tried again


class Wish(msgspec.Struct, frozen=True, eq=False):
    """Somebody wants to go back. `held` None: by a signed undo, which holds nothing; `done` gets the status."""

    why: Fault
    by: str
    held: Held | None
    done: asyncio.Future[dict[str, object]]


class Retreat:
    """`wish` is what somebody asked for and waits for."""

    def __init__(self, case: Case) -> None:
        self._case: Final = case
        self._stuck = ""  # a banned release that there is no way back from
        self._again_s = 0.0
        self.no_way_from = ""  # the key of what answered when one was wanted in vain
        self.wish: Wish | None = None

    def wanted(self, why: Fault, by: str, held: Held | None) -> asyncio.Future[dict[str, object]]:
        """Somebody wants to go back; the model's own task will do it. Raises EdgedError busy."""
        if self.wish is not None:
            raise EdgedError("busy", f"{self._case.shelf.model} goes back already")
        done: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self.wish = Wish(why, by, held, done)
        self._case.wake.set()
        return done

    async def as_wished(self) -> None:
        """Goes back as somebody wants it."""
        wish, case = self.wish, self._case
        if wish is None:
            return
        now, back_to = case.shelf.active(case.ledger.record), await case.shelf.way_back(case.ledger.record)
        if back_to is None or now is None:
            await self._cannot(EdgedError("no_previous", f"{case.shelf.model} has no version to go back to"))
            return
        await self._undo(wish, back_to, now)

    async def _cannot(self, error: EdgedError) -> None:
        """There is no way back, and whoever wants one is told."""
        ledger, wish = self._case.ledger, self.wish
        active = self._case.shelf.active(ledger.record)
        self.no_way_from = active.key if active is not None else ""
        if ledger.record.leaving:
            text = f"no way back: {error.fault.message}"
            ledger.decided("rollback_refused", text, error.fault, by=wish.by if wish else "")
            self._again_s = self._case.clock() + AGAIN_S
            if error.fault.code != "no_space":  # which passes
                await ledger.update(rollout.stays)
        self.answer(error)

    @property
    def must_leave(self) -> bool:
        """Whether what answers is taken back by a signed undo, and nobody goes back yet."""
        return self._case.ledger.record.leaves and self.wish is None and self._case.clock() >= self._again_s

    def banned(self) -> Fault | None:
        """Why what answers must not, by the trust document; None too where there is nothing else."""
        active = self._case.ledger.record.active
        if active is None or active.release == self._stuck:
            return None
        reason = self._case.shelf.banned(active.release)
        return None if reason is None else banned(reason)

    async def because(self, problem: Fault) -> None:
        """The release that answers has to go; where there is nothing to go back to, it stays."""
        case, ledger, shelf = self._case, self._case.ledger, self._case.shelf
        now, back_to = shelf.active(ledger.record), await shelf.way_back(ledger.record)
        if back_to is None or now is None:
            await self._stays(problem)
            return
        await ledger.update(lambda record: rollout.faulted(record, problem, back_to))
        text = f"back to version {back_to.version}: {problem.message}"
        ledger.decided("rolled_back", text, problem, now.version, now.sha256)
        await self._leave_for(case.shelf.release(back_to), problem)
        held = self.wish.held if self.wish is not None else None
        if held is not None:  # what somebody wanted meanwhile has happened, and holds
            await ledger.update(lambda record: msgspec.structs.replace(record, held=held))
            ledger.say(ledger.course)
        self.answer(None)

    async def _stays(self, problem: Fault) -> None:
        case, ledger, shelf = self._case, self._case.ledger, self._case.shelf
        now = shelf.active(ledger.record)
        ledger.decided("committed", f"kept, as there is no way back: {problem.message}", problem)
        if problem.code == "banned" and now is not None:
            self._stuck = now.release
        if ledger.record.phase is Phase.PROBATION:
            await self.keep((NO_PREVIOUS,), problem)
        if now is not None and case.route.live is None:
            await case.route.serve(shelf.release(now))  # the route may have left that to us
        self.answer(EdgedError("no_previous", f"{shelf.model} has no version to go back to"))

    async def keep(self, flags: tuple[str, ...], problem: Fault | None = None) -> None:
        """Probation is over, and the release stays."""
        case, ledger = self._case, self._case.ledger
        await ledger.update(lambda record: rollout.kept(record, flags, problem))
        if problem is None:
            ledger.decided("committed", "probation has ended, the version is kept")
        await retire_previous(case.route)
        await asyncio.to_thread(case.store.prune)
        ledger.rest()

    async def _undo(self, wish: Wish, back_to: Stored, now: Stored) -> None:
        """Nothing is given up for a release that cannot be loaded or not be recorded."""
        case, ledger, release = self._case, self._case.ledger, self._case.shelf.release(back_to)
        try:
            process = await ready(case.route, release)
            try:
                # A signed undo is in the record already: a restart would follow it again.
                write = ledger.commit if wish.held is not None else ledger.update
                await write(lambda record: rollout.undone(record, back_to, now, wish.why, wish.held))
            except OSError as error:
                if process is not case.route.previous:
                    await case.route.retire(process)
                problem = unwritable(error)
                raise EdgedError(problem.code, problem.message, problem.hint) from error
        except EdgedError as error:
            case.route.resume()
            await self._cannot(error)
            return
        way = "back" if back_to.version < now.version else "on"  # to the newer one, where somebody had gone back
        text = f"{way} to version {release.version}: {wish.why.message}"
        ledger.decided("rolled_back", text, wish.why, now.version, now.sha256, wish.by)
        await self._leave_for(release, wish.why, process)
        self.answer(None)

    async def _leave_for(self, release: Release, why: Fault, process: Generation | None = None) -> None:
        await put_live(self._case.route, release, why, process)
        await retire_previous(self._case.route)
        await asyncio.to_thread(self._case.store.prune)
        self._case.ledger.rest()

    def answer(self, error: EdgedError | None) -> None:
        """Tells whoever waits how it went."""
        wish, self.wish = self.wish, None
        if wish is None or wish.done.done():
            return
        if error is None:
            wish.done.set_result(self._case.ledger.status())
        else:
            wish.done.set_exception(error)
            wish.done.exception()  # read, for whoever asked may have gone


def undone_by(by: str) -> Fault:
    """Why a release left that did nothing wrong."""
    return fault("undone", f"{by} went back from it" if by else "an operator went back from it")


def banned(reason: str) -> Fault:
    """Why nobody may run a release."""
    return fault("banned", f"the release is banned: {reason or 'without a reason'}")
