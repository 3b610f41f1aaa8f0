"""One model's record and course, and what is published about them: written first, said afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from edged.config.schema import Push
from edged.delivery.audit import Decision, Event
from edged.delivery.record import Phase, Record, Verdict
from edged.delivery.report import Course, Standing, Subject, status
from edged.delivery.shelf import Shelf, resume
from edged.delivery.store import Store
from edged.disk import is_full
from edged.errors import Fault, fault

log = logging.getLogger("edged.delivery")

Publish = Callable[[str, dict[str, object]], None]
Audit = Callable[[Decision], None]
Change = Callable[[Record], Record]


class Pushed(msgspec.Struct, frozen=True):
    """A file that arrived. `version` None: the highest seen, plus one."""

    payload: bytes
    sha256: str
    version: int | None

    @property
    def subject(self) -> Subject:
        return Subject(self.sha256, self.version or 0, len(self.payload))


class Ledger:
    """`record` is what a restart would find, or should; `course` is where the model stands now.

    Several may change the record, each what is its own, one after the other: `commit` and `update` take turns.
    `standing(model, record)` is what the box adds to a status.
    """

    def __init__(
        self,
        shelf: Shelf,
        store: Store,
        settings: Push,
        publish: Publish,
        audit: Audit,
        standing: Callable[[str, Record], Standing],
    ) -> None:
        self.record = Record()
        self.course = Course(Phase.IDLE)
        self.fault: Fault | None = None  # nothing is left to serve, and why
        self.behind = False  # the store does not have the record yet
        self._shelf: Final = shelf
        self._store: Final = store
        self.settings = settings
        self._publish: Final = publish
        self._audit: Final = audit
        self._standing: Final = standing
        self._said: tuple[Course, dict[str, object]] | None = None  # last, and as which status
        self._writing: Final = asyncio.Lock()

    async def open(self, record: Record) -> None:
        """Takes up what the store knows, as a start of the daemon does."""
        await self._shelf.open()
        self.record, self.fault = await resume(record, self._shelf)
        last = self.record.last
        if last is not None and last != record.last and last.fault is not None:
            event: Event = "rolled_back" if last.verdict == "rolled_back" else "failed"
            self.decided(event, f"found at the start: {last.fault.message}", last.fault, last.version, last.sha256)
        self.course = self._resting()
        if msgspec.structs.replace(self.record, highest=record.highest) != record:
            await self.note()

    async def commit(self, change: Change) -> None:
        """Makes the changed record the one that holds. Raises OSError: then the old one still does."""
        async with self._writing:
            record = change(self.record)
            await asyncio.to_thread(self._store.commit, self._shelf.model, record)
            # What a probation counts was written into the old one meanwhile: its next look says it again.
            self.record, self.behind = record, False

    async def update(self, change: Change) -> None:
        """What has happened has happened: the changed record holds, and a full disk only leaves the store `behind`."""
        async with self._writing:
            self.record = change(self.record)
            try:
                await asyncio.to_thread(self._store.commit, self._shelf.model, self.record)
            except OSError as error:
                self.behind = True
                problem = unwritable(error)
                log.error("not recorded: %s", problem.message, extra=self.fields(problem.code))
            else:
                self.behind = False

    async def note(self) -> None:
        """Writes the record as it is."""
        await self.update(_as_it_is)

    def known(self, pushed: Pushed) -> Verdict | None:
        """The verdict on a file that needs no trial: it is live, or it failed here before."""
        active = self._shelf.active(self.record)
        if active is not None and active.sha256 == pushed.sha256:
            return Verdict("active", active.version, active.sha256)
        before = self.record.blacklist.get(pushed.sha256)
        if before is None:
            return None
        return Verdict("rejected", pushed.version or 0, pushed.sha256, again(before))

    def reject(self, subject: Subject, problem: Fault, by: str = "", *, tell: bool = True) -> None:
        """Says no to a push that changes nothing here, in a status of its own where `tell`."""
        self.decided("rejected", f"push refused: {problem.message}", problem, subject.version, subject.sha256, by)
        if not tell:
            return
        verdict = Verdict("rejected", subject.version, subject.sha256, problem, (), subject.release)
        self._send(Course(Phase.IDLE, subject, verdict))
        if self.course.phase is not Phase.IDLE or self.course.waiting is not None:
            self._send(self.course)  # which may be so for days, and is what the broker has to keep

    def say(self, course: Course) -> None:
        """Publishes where the model stands from now on."""
        self.course = course
        self._send(course)

    def look_over(self) -> None:
        """Publishes again what was said last, a refusal too, where what is so besides has made it another status."""
        if self._said is not None and self._said[1] != self._status(self._said[0]):
            self._send(self._said[0])

    def rest(self) -> None:
        """Publishes where the model stands by its record."""
        self.say(self._resting())

    def status(self) -> dict[str, object]:
        """The status document as it is now."""
        return self._status(self.course)

    def decided(
        self,
        event: Event,
        message: str,
        problem: Fault | None = None,
        version: int | None = None,
        sha256: str | None = None,
        by: str = "",
    ) -> None:
        """Something was decided: for the audit, the journal, and whoever listens. Version and hash: the course's."""
        subject = self.course.subject
        version = subject.version if version is None else version
        code = problem.code if problem else ""
        sha256 = subject.sha256 if sha256 is None else sha256
        self._audit(Decision(event, message, self._shelf.model, str(version or ""), sha256, code, by))

    def fields(self, code: str) -> dict[str, str]:
        """What every log line about this model carries."""
        version = str(self.course.subject.version or "")
        return {"model": self._shelf.model, "version": version, "code": code}

    def _resting(self) -> Course:
        last, now = self.record.last, self.record.candidate or self.record.active
        if self.record.phase is not Phase.IDLE and now is not None:
            return Course(self.record.phase, Subject(now.sha256, now.version, now.size, now.release))
        if last is None:
            return Course(Phase.IDLE)
        course, subject = self.course, Subject(last.sha256, last.version, 0, last.release)
        if (course.subject.sha256, course.subject.release) == (subject.sha256, subject.release):
            return Course(Phase.IDLE, course.subject, last, course.figures, loaded=course.loaded)
        return Course(Phase.IDLE, subject, last)

    def _status(self, course: Course) -> dict[str, object]:
        standing = self._standing(self._shelf.model, self.record)
        return status(self.record, course, self._shelf.factory, self.settings, standing)

    def _send(self, course: Course) -> None:
        told = self._status(course)
        self._said = course, told
        try:
            self._publish(self._shelf.model, told)
        except Exception:  # whether an installation goes on does not depend on telling of it
            log.exception("the status could not be published", extra=self.fields("internal"))


def again(before: Fault) -> Fault:
    """What is said of a release that failed here before."""
    return Fault(before.code, f"it failed on this box before: {before.message}", before.hint)


def unwritable(error: OSError) -> Fault:
    """What the state directory's error means to whoever pushed."""
    if is_full(error):
        return fault("no_space", f"there is no room for it on the disk: {error.strerror}")
    return fault("bad_store", f"the state directory cannot be written: {error.strerror}", "Check the disk of the box.")


def _as_it_is(record: Record) -> Record:
    return record
