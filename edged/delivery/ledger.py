"""One model's record and course, and what is published about them: written first, said afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from edged.config.schema import Push
from edged.delivery.audit import Decision, Event
from edged.delivery.disk import is_full
from edged.delivery.report import Course, Subject, status
from edged.delivery.rollout import Phase, Record, Verdict
from edged.delivery.shelf import Shelf, resume
from edged.delivery.store import Store
from edged.errors import Fault, fault

log = logging.getLogger("edged.delivery")

Publish = Callable[[str, dict[str, object]], None]
Audit = Callable[[Decision], None]


class Pushed(msgspec.Struct, frozen=True):
    """A file that arrived. `version` None: the highest seen, plus one."""

    payload: bytes
    sha256: str
    version: int | None

    @property
    def subject(self) -> Subject:
        return Subject(self.sha256, self.version or 0, len(self.payload))


class Ledger:
    """`record` is what a restart would find, or should; `course` is where the model stands now."""

    def __init__(self, shelf: Shelf, store: Store, settings: Push, publish: Publish, audit: Audit) -> None:
        self.record = Record()
        self.course = Course(Phase.IDLE)
        self.fault: Fault | None = None  # nothing is left to serve, and why
        self.behind = False  # the store does not have the record yet
        self._shelf: Final = shelf
        self._store: Final = store
        self.settings = settings
        self._publish: Final = publish
        self._audit: Final = audit

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

    async def commit(self, record: Record) -> None:
        """Makes `record` the one that holds. Raises OSError: then the old one still does."""
        await asyncio.to_thread(self._store.commit, self._shelf.model, record)
        self.record, self.behind = record, False

    async def note(self) -> None:
        """Writes the record; what has happened has happened, so a full disk only leaves the store `behind`."""
        try:
            await self.commit(self.record)
        except OSError as error:
            self.behind = True
            problem = unwritable(error)
            log.error("not recorded: %s", problem.message, extra=self.fields(problem.code))

    def known(self, pushed: Pushed) -> Verdict | None:
        """The verdict on a file that needs no trial: it is live, or it failed here before."""
        active = self._shelf.active(self.record)
        if active is not None and active.sha256 == pushed.sha256:
            return Verdict("active", active.version, active.sha256)
        before = self.record.blacklist.get(pushed.sha256)
        if before is None:
            return None
        again = Fault(before.code, f"it failed on this box before: {before.message}", before.hint)
        return Verdict("rejected", pushed.version or 0, pushed.sha256, again)

    def reject(self, subject: Subject, problem: Fault) -> None:
        """Says no to a push that changes nothing here."""
        self.decided("rejected", f"push refused: {problem.message}", problem, subject.version, subject.sha256)
        self._send(Course(self.course.phase, subject, Verdict("rejected", subject.version, subject.sha256, problem)))

    def say(self, course: Course) -> None:
        """Publishes where the model stands from now on."""
        self.course = course
        self._send(course)

    def rest(self) -> None:
        """Publishes where the model stands by its record."""
        self.say(self._resting())

    def status(self) -> dict[str, object]:
        """The status document as it is now."""
        return status(self.record, self.course, self._shelf.factory, self.settings)

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
            return Course(self.record.phase, Subject(now.sha256, now.version, now.size))
        if last is None:
            return Course(Phase.IDLE)
        subject, figures = Subject(last.sha256, last.version), None
        if self.course.subject.sha256 == last.sha256:
            subject, figures = self.course.subject, self.course.figures
        return Course(Phase.IDLE, subject, last, figures)

    def _send(self, course: Course) -> None:
        try:
            self._publish(self._shelf.model, status(self.record, course, self._shelf.factory, self.settings))
        except Exception:  # whether an installation goes on does not depend on telling of it
            log.exception("the status could not be published", extra=self.fields("internal"))


def unwritable(error: OSError) -> Fault:
    """What the state directory's error means to whoever pushed."""
    if is_full(error):
        return fault("no_space", f"there is no room for it on the disk: {error.strerror}")
    return fault("bad_store", f"the state directory cannot be written: {error.strerror}", "Check the disk of the box.")
