"""One model's way through rollout's table: performs each action, and records each phase before it does.

One task per model does everything, so that a record has one writer. Trials of different models take
turns; probations run beside each other, as they only watch. A store that cannot be written stops a
trial and a switch; everything else goes on in memory, and the next write catches up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from edged.config.schema import Model, Push
from edged.delivery import probation, rollout
from edged.delivery.examiner import Examined, examine
from edged.delivery.ledger import Audit, Ledger, Publish, Pushed, unwritable
from edged.delivery.renewal import Prepared, Renewal, perform, prepare
from edged.delivery.report import Course, Subject
from edged.delivery.reversal import put_live, ready, retire_previous
from edged.delivery.rollout import Action, Event, Phase, Record, Stored, Verdict
from edged.delivery.shelf import Shelf
from edged.delivery.store import Store
from edged.delivery.watch import Watch, baseline
from edged.errors import EdgedError, Fault, fault
from edged.serving.generation import Generation
from edged.serving.release import Release
from edged.serving.route import Route

TICK_S: Final = 1.0
RECORD_EVERY_S: Final = 10.0  # so that a restart knows how much of a probation is left; a failed write is tried again
LIVE_WAIT_S: Final = 30.0  # right after a start, for the live model to be there to compare with

QUEUED: Final = "queued"  # a newer push waits for the end of this probation
NO_PREVIOUS: Final = "no_previous"  # it failed its probation, and there was nothing to go back to


class Installation:
    """One model. `turn` is held by the one model that stages, tries and switches."""

    def __init__(
        self,
        shelf: Shelf,
        store: Store,
        route: Route,
        settings: Push,
        *,
        turn: asyncio.Lock,
        publish: Publish,
        audit: Audit,
        clock: Callable[[], float],
    ) -> None:
        self._shelf: Final = shelf
        self._store: Final = store
        self._route: Final = route
        self._ledger: Final = Ledger(shelf, store, settings, publish, audit)
        self._turn: Final = turn
        self._clock: Final = clock
        self._wake: Final = asyncio.Event()
        self._waiting: Pushed | None = None
        self._trial: asyncio.Task[Examined] | None = None
        self._seen: Watch | None = None
        self._faulty: Fault | None = None
        self._undo: asyncio.Future[dict[str, object]] | None = None
        self._undo_by = ""
        self._renewal: Renewal | None = None
        route.on_faulty = self._on_faulty

    async def open(self, record: Record) -> None:
        """Takes up what the store knows; afterwards `boot_release` says what to serve."""
        await self._ledger.open(record)

    def boot_release(self) -> Release | None:
        """None when the model waits for its first push, or `boot_fault` says why nothing can be served."""
        active = self._shelf.active(self._ledger.record)
        return self._shelf.release(active) if active else None

    @property
    def boot_fault(self) -> Fault | None:
        return self._ledger.fault

    # --- what comes from outside, in the loop -------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """Where the model stands now: what is `offered` is in no record."""
        return self._ledger.course.phase

    @property
    def waiting_bytes(self) -> int:
        """What a push that waits holds in memory."""
        return len(self._waiting.payload) if self._waiting else 0

    def reject(self, subject: Subject, problem: Fault) -> None:
        """Says no to a push that changes nothing here."""
        self._ledger.reject(subject, problem)

    def push(self, pushed: Pushed) -> None:
        """Takes a file: at once, after the probation under way, or in place of the one that is tried."""
        if pushed.sha256 == (self._waiting.sha256 if self._waiting else self._under_way()):
            return  # QoS 1 may deliver it twice
        what = rollout.action(self.phase, Event.PUSHED)
        if self._waiting is not None:
            self.reject(self._waiting.subject, fault("superseded", "a newer push took its place"))
        self._waiting = pushed
        if what is Action.STAGE:
            self._ledger.say(Course(Phase.OFFERED, pushed.subject))
        elif what is Action.QUEUE:
            self._ledger.say(msgspec.structs.replace(self._ledger.course, flags=(QUEUED,)))
        elif self._trial is not None:
            self._trial.cancel()
        self._wake.set()

    def _under_way(self) -> str:
        return "" if self.phase is Phase.IDLE else self._ledger.course.subject.sha256

    async def rollback(self, by: str) -> dict[str, object]:
        """The operator's rollback; returns the status after it. Raises EdgedError no_previous or busy."""
        if self.phase in {Phase.OFFERED, Phase.TRIAL} or self._undo is not None:
            raise EdgedError("busy", f"a push of {self._shelf.model} is under way")
        self._undo, self._undo_by = asyncio.get_running_loop().create_future(), by
        self._wake.set()
        return await asyncio.shield(self._undo)

    async def is_outdated(self) -> bool:
        """Whether the factory model answers, and its file holds something else by now."""
        return await self._shelf.is_outdated(self._ledger.record)

    async def prepare(self, settings: Model) -> Prepared:
        """Makes ready what other settings need, and changes nothing. Raises EdgedError."""
        return await prepare(self._route, self._shelf, self._ledger.record, settings)

    async def renew(self, prepared: Prepared, cut: Callable[[], None]) -> None:
        """Makes it take effect when no trial is under way, with `cut`. Raises EdgedError when it cannot."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._renewal = Renewal(prepared, cut, done)
        self._wake.set()
        await done  # `stop` cancels it

    def adopt(self, settings: Push) -> None:
        """Other settings for the next push."""
        self._ledger.settings = settings

    def _on_faulty(self, generation: Generation, problem: Fault) -> bool:
        """The route asks whether a model whose process ends again and again is replaced from here."""
        record = self._ledger.record
        if record.phase is not Phase.PROBATION or not self._shelf.has_way_back(record):
            return False
        if record.active is None or generation.release.sha256 != record.active.sha256:
            return False
        self._faulty = fault("probation_crash", problem.message)
        self._wake.set()
        return True

    # --- the walk -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Does what the phase asks for, again and again, until it is cancelled."""
        self._ledger.rest()
        while True:
            phase = self._ledger.record.phase
            if self._renewal is not None and phase is not Phase.TRIAL:
                await perform(self._route, self._shelf, self._ledger.record, self._renewal)
                self._renewal = None
                self._ledger.say(self._ledger.course)
            elif phase is Phase.PROBATION:
                await self._watch()
            elif phase is Phase.TRIAL:
                async with self._turn:
                    await self._try()
            elif self._undo is not None:
                await self._go_back(None)
            elif self._waiting is not None:
                async with self._turn:
                    await self._stage()
                    await self._try()
            else:
                self._wake.clear()
                await self._pause(RECORD_EVERY_S if self._ledger.behind else None)
                if self._ledger.behind:
                    await self._ledger.note()

    async def stop(self) -> None:
        """After `run` was cancelled: a clean stop costs no attempt."""
        self._answer_undo(EdgedError("stopping", "the daemon stops"))
        if self._renewal is not None:
            self._renewal.done.cancel()
        if self._ledger.record.phase is not Phase.IDLE or self._ledger.behind:
            self._ledger.record = rollout.stopped(self._ledger.record)
            await self._ledger.note()

    async def _stage(self) -> None:
        pushed, self._waiting = self._waiting, None
        if pushed is None:
            return
        ledger = self._ledger
        refused = rollout.target(Phase.OFFERED, Event.REFUSED)
        known = ledger.known(pushed)
        if known is not None:
            if known.fault is None:
                ledger.decided("offered", "what was pushed answers already", None, known.version, known.sha256)
            else:
                ledger.decided("rejected", f"push refused: {known.fault.message}", known.fault, 0, known.sha256)
            ledger.say(Course(refused, pushed.subject, known))
            return
        version = pushed.version or ledger.record.highest + 1
        subject = msgspec.structs.replace(pushed.subject, version=version)
        ledger.say(Course(Phase.OFFERED, subject))
        try:
            await asyncio.to_thread(self._store.stage, pushed.payload)
            await ledger.commit(rollout.staged(ledger.record, Stored(version, subject.sha256, subject.size)))
        except OSError as error:
            problem = unwritable(error)
            ledger.decided("rejected", f"push refused: {problem.message}", problem)
            ledger.say(Course(refused, subject, Verdict("rejected", version, subject.sha256, problem)))
            await asyncio.to_thread(self._store.discard, subject.sha256)
        else:
            ledger.decided("offered", f"version {version} was pushed and is tried")
            ledger.say(Course(Phase.TRIAL, subject))

    async def _try(self) -> None:
        candidate = self._ledger.record.candidate
        if candidate is None:
            return
        if not await self._shelf.intact(candidate):
            await self._failed(fault("bad_store", "its file is missing or damaged"))
            return
        self._trial = asyncio.create_task(self._examine(self._shelf.release(candidate)))
        if self._waiting is not None:  # it came while this one was being stored
            self._trial.cancel()
        try:
            await asyncio.wait({self._trial})
            examined = None if self._trial.cancelled() else self._trial.result()
        finally:
            self._trial.cancel()
            self._trial = None
        if examined is None:
            await self._failed(fault("superseded", "a newer push took its place"))
            return
        judgement = examined.judgement
        self._ledger.course = msgspec.structs.replace(self._ledger.course, figures=judgement.figures)
        if judgement.fault is not None:
            await self._failed(judgement.fault, judgement.flags)
        elif examined.candidate is not None:
            record = self._ledger.record
            before = baseline(self._route.live, judgement.live_cpu_s)
            record = rollout.passed(record, self._shelf.active(record), before, judgement.flags)
            await self._switch(examined.candidate, record)

    async def _examine(self, release: Release) -> Examined:
        until_s = self._clock() + LIVE_WAIT_S
        while self._route.live is None and self._route.fault is None and self.boot_release():
            if self._clock() > until_s:
                break
            await asyncio.sleep(0.05)
        factor = float(self._ledger.settings.probation.max_latency)
        return await examine(self._route, release, factor=factor, clock=self._clock)

    async def _failed(self, problem: Fault, flags: tuple[str, ...] = ()) -> None:
        ledger = self._ledger
        ledger.decided("failed", f"the trial failed: {problem.message}", problem)
        ledger.record = rollout.failed(ledger.record, problem, flags)
        self._route.resume()
        await ledger.note()
        await asyncio.to_thread(self._store.prune)
        ledger.rest()

    async def _switch(self, candidate: Generation, record: Record) -> None:
        """The commit point, then the switch."""
        ledger = self._ledger
        try:
            await ledger.commit(record)
        except OSError as error:
            await self._route.retire(candidate)
            await self._failed(unwritable(error))
            return
        self._faulty = self._seen = None
        flags = (QUEUED,) if self._waiting is not None else ()
        ledger.say(msgspec.structs.replace(ledger.course, phase=Phase.PROBATION, flags=flags))
        try:
            await self._route.switch(candidate)
        except EdgedError as error:
            self._faulty = fault("probation_crash", error.fault.message)
        else:
            ledger.decided("switched", f"version {candidate.release.version} answers now, on probation")

    # --- probation, and back ------------------------------------------------------------------------

    async def _watch(self) -> None:
        ledger, settings = self._ledger, self._ledger.settings.probation
        watch = self._seen = self._seen or Watch(ledger.record.watched, self._clock)
        tick_s = min(TICK_S, max(0.02, settings.time / 10))
        noted_s = self._clock()
        while self._undo is None:
            self._wake.clear()
            if self._renewal is not None:
                return
            watched, cpu_s = watch.look(self._route.live)
            ledger.record = msgspec.structs.replace(ledger.record, watched=watched)
            problem = self._faulty or (self._route.fault if self._route.live is None else None)
            problem = problem or probation.faulty(settings, watched, ledger.record.baseline, cpu_s)
            if problem is not None:
                await self._go_back(problem)
                return
            done, flags = probation.complete(settings, watched)
            if done:
                await self._keep(flags)
                return
            if self._clock() - noted_s >= RECORD_EVERY_S:
                noted_s = self._clock()
                await ledger.note()
                ledger.say(ledger.course)
            await self._pause(tick_s)
        await self._go_back(None)

    async def _pause(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _keep(self, flags: tuple[str, ...], problem: Fault | None = None) -> None:
        ledger = self._ledger
        ledger.record = rollout.kept(ledger.record, flags, problem)
        if problem is None:
            ledger.decided("committed", "probation has ended, the version is kept")
        await ledger.note()
        await retire_previous(self._route)
        await asyncio.to_thread(self._store.prune)
        ledger.rest()

    async def _go_back(self, problem: Fault | None) -> None:
        """Back to the previous release: because of `problem`, or because the operator says so."""
        ledger, shelf = self._ledger, self._shelf
        now, back_to = shelf.active(ledger.record), await shelf.way_back(ledger.record)
        self._faulty = None
        if back_to is None or now is None:
            if problem is not None:
                ledger.decided("committed", f"kept, as there is no way back: {problem.message}", problem)
                await self._keep((NO_PREVIOUS,), problem)
                if now is not None and self._route.live is None:
                    await self._route.serve(shelf.release(now))  # the route may have left that to us
            self._answer_undo(EdgedError("no_previous", f"{shelf.model} has no version to go back to"))
            return
        release = shelf.release(back_to)
        if problem is None:
            await self._undo_to(release, rollout.undone(ledger.record, back_to, now), now)
            return
        ledger.record = rollout.faulted(ledger.record, problem, back_to)
        text = f"back to version {back_to.version}: {problem.message}"
        ledger.decided("rolled_back", text, problem, now.version, now.sha256)
        await ledger.note()
        await self._leave_for(release, problem)
        self._answer_undo(None)

    async def _undo_to(self, release: Release, record: Record, now: Stored) -> None:
        """The operator's way back: nothing is given up for a release that cannot be loaded or not be recorded."""
        ledger, why = self._ledger, fault("undone", "an operator asked for it")
        try:
            process = await ready(self._route, release)
            try:
                await ledger.commit(record)
            except OSError as error:
                if process is not self._route.previous:
                    await self._route.retire(process)
                raise EdgedError(*_parts(unwritable(error))) from error
        except EdgedError as error:
            self._route.resume()
            self._answer_undo(error)
            return
        text = f"back to version {release.version}: {why.message}"
        ledger.decided("rolled_back", text, why, now.version, now.sha256, self._undo_by)
        await self._leave_for(release, why, process)
        self._answer_undo(None)

    async def _leave_for(self, release: Release, why: Fault, process: Generation | None = None) -> None:
        await put_live(self._route, release, why, process)
        await retire_previous(self._route)
        await asyncio.to_thread(self._store.prune)
        self._ledger.rest()

    def _answer_undo(self, error: EdgedError | None) -> None:
        undo, self._undo = self._undo, None
        if undo is None or undo.done():
            return
        if error is None:
            undo.set_result(self._ledger.status())
        else:
            undo.set_exception(error)
            undo.exception()  # read, for whoever asked may have gone


def _parts(problem: Fault) -> tuple[str, str, str]:
    return problem.code, problem.message, problem.hint
