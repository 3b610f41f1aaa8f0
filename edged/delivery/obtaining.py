"""How a version gets onto the disk: a pushed file from memory, or the release that an order names, fetched.

The order's document first: signed, and fit for this box, before anything else is fetched. Then its files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from edged.config.schema import Push
from edged.delivery import documents, manifest, rollout, trust
from edged.delivery.case import Case
from edged.delivery.documents import Release, Trust
from edged.delivery.fetcher import Fetcher, Progress, named
from edged.delivery.gate import Moment
from edged.delivery.ledger import Pushed, unwritable
from edged.delivery.line import Line
from edged.delivery.record import Order, Phase, Record, Stored, Verdict
from edged.delivery.report import Course, Loaded, Standing, Subject
from edged.delivery.rollout import Event
from edged.errors import EdgedError, Fault, fault

TELL_EVERY_S: Final = 5.0  # a download's figures
_NEWEST: Final = "999"  # where nobody can tell, the trial does
LET_BY_S: Final = 1.0  # how soon one that stands still lets another by
AWAY_S: Final = 5.0  # and how soon one that has no broker, and that nobody brings anything
MISSED_S: Final = 10.0  # a document that did not come until then is told as missing


class Fleet(Protocol):
    """What this box knows of its fleet."""

    @property
    def trust(self) -> Trust | None: ...
    @property
    def onnxruntime(self) -> str: ...
    @property
    def fetcher(self) -> Fetcher: ...
    def standing(self, model: str, record: Record) -> Standing: ...
    def moment(self, order: Order, waited_s: float, settings: Push) -> Moment: ...
    def means(self, order: Order) -> bool: ...


class Obtaining:
    """`line` is held by the one model of the box that fetches."""

    def __init__(self, case: Case, fleet: Fleet, line: Line) -> None:
        self._case: Final = case
        self._fleet: Final = fleet
        self._line: Final = line
        self.given: tuple[str, bytes] = "", b""  # the name and the envelope of a release that came from a person

    async def stage(self, pushed: Pushed, before: Order | None) -> None:
        """Takes a pushed file: it is known already, or on the disk and its trial due, or there is no room for it.

        `before`: the order in force when it came; a later one is newer than the push.
        """
        case, ledger = self._case, self._case.ledger
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
            await asyncio.to_thread(case.store.stage, pushed.payload)
            stored = Stored(version, subject.sha256, subject.size)
            await ledger.commit(lambda record: rollout.staged(record, stored, before))
        except OSError as error:
            problem = unwritable(error)
            ledger.decided("rejected", f"push refused: {problem.message}", problem)
            ledger.say(Course(refused, subject, Verdict("rejected", version, subject.sha256, problem)))
            await asyncio.to_thread(case.store.discard, subject.sha256)
        else:
            ledger.decided("offered", f"version {version} was pushed and is tried")
            ledger.say(Course(Phase.TRIAL, subject))

    async def look_up(self, order: Order) -> None:
        """Fetches the order's document and judges it; afterwards its files are due, or it has its verdict."""
        ledger = self._case.ledger
        ledger.say(Course(Phase.OFFERED, Subject("", order.version, 0, order.release)))
        try:
            _, signed, release = await self._document(order)
        except EdgedError as error:
            await self._refuse(order, error.fault)
            return
        model = release.files[documents.MODEL_FILE]
        stored = Stored(release.version, model.sha256, model.size, False, order.release, signed)
        try:
            await ledger.commit(lambda record: rollout.approved(record, stored))
        except OSError as error:
            problem = unwritable(error)
            raise EdgedError(problem.code, problem.message, problem.hint) from error
        subject = Subject(model.sha256, release.version, release.size, order.release)
        by = f"{order.by}; release key {', '.join(signed)}"
        ledger.course = Course(Phase.DOWNLOADING, subject, loaded=Loaded(release.size))
        ledger.decided("offered", f"version {release.version} is wanted and fits: it is fetched", by=by)
        ledger.say(ledger.course)

    async def _document(self, order: Order) -> tuple[bytes, tuple[str, ...], Release]:
        """The release's envelope, who signed it, and what it is. Raises EdgedError: why it does not go here."""
        near = self.given[1] if self.given[0] == order.release else None
        near = near or await asyncio.to_thread(self._stored, order.release)
        if near is not None:
            try:
                return near, *await asyncio.to_thread(self._judged, order, near)
            except EdgedError as error:
                if error.fault.code != "signature":
                    raise  # else it may have been signed anew
        envelope = await self._fetched_document(order.release)
        return envelope, *await asyncio.to_thread(self._judged, order, envelope)

    def _stored(self, sha256: str) -> bytes | None:
        """The envelope that is on the disk, unless it is damaged."""
        content = self._case.store.document(sha256)
        return content if content is not None and named(content) == sha256 else None

    async def _fetched_document(self, sha256: str) -> bytes:
        coming = asyncio.ensure_future(self._fleet.fetcher.document(sha256))
        try:
            await asyncio.wait({coming}, timeout=MISSED_S)
            if not coming.done():
                waiting = fault("no_blob", "the broker does not have the release's document")
                ledger = self._case.ledger
                ledger.say(msgspec.structs.replace(ledger.course, waiting=waiting))
            return await coming
        finally:
            coming.cancel()

    def _judged(self, order: Order, envelope: bytes) -> tuple[tuple[str, ...], Release]:
        """Who signed it, and what it is. Raises EdgedError: why it does not go here."""
        now = self._fleet.trust
        if now is None:
            raise EdgedError("no_trust", "this box has no trust document to judge it by")
        signed = trust.release(now, envelope)
        if signed.sha256 != order.release:
            raise EdgedError("bad_document", "the document is not the one that is wanted")
        problem = self._refusal(order, signed.document, now)
        if problem is not None:
            raise EdgedError(problem.code, problem.message, problem.hint)
        return signed.signers, signed.document

    def _refusal(self, order: Order, release: Release, now: Trust) -> Fault | None:
        ledger, settings = self._case.ledger, self._case.ledger.settings
        if ledger.record.arrived and documents.SETTINGS_FILE not in release.files:
            what = f"no configuration names {release.model}, and the release does not say how it is used"
            return fault("bad_settings", what, "Make the release with --settings model.yaml.")
        active = self._case.shelf.active(ledger.record)
        return manifest.refusal(
            release,
            self._case.shelf.model,
            order.want,
            sha256=order.release,
            trust=now,
            live=self._case.route.signature,
            active_version=active.version if active else None,
            max_size=settings.max_size,
            onnxruntime=self._fleet.onnxruntime or _NEWEST,
        )

    async def _refuse(self, order: Order, problem: Fault) -> None:
        ledger = self._case.ledger
        verdict = Verdict("rejected", order.version, "", problem, (), order.release)
        ledger.decided("rejected", f"release refused: {problem.message}", problem, order.version, "", order.by)
        await ledger.update(lambda record: rollout.answered(record, verdict))
        ledger.rest()

    async def fetch(self, order: Order, candidate: Stored) -> None:
        """Fetches the candidate's files; afterwards they are whole and durable.

        Raises EdgedError: what keeps it from being fetched now, and bad_chunk, which is a verdict.
        """
        ledger = self._case.ledger
        envelope, _, release = await self._document(order)
        while True:
            async with self._line.turn():
                if await self._fetched(candidate.release, envelope, release):
                    break
        await ledger.commit(rollout.fetched)
        ledger.say(msgspec.structs.replace(ledger.course, phase=Phase.VERIFIED, waiting=None))

    async def _fetched(self, key: str, envelope: bytes, release: Release) -> bool:
        """Whether all of it is here; False when it stands still and another model waits for its turn."""
        case, fetcher = self._case, self._fleet.fetcher
        fetching = fetcher.files(key, envelope, release, self._teller(), lenders=case.shelf.lenders)
        coming = asyncio.ensure_future(fetching)
        had, since_s = 0, case.clock()
        try:
            while not coming.done():
                await asyncio.wait({coming}, timeout=LET_BY_S)
                have = case.ledger.course.loaded.have
                if fetcher.connected or have != had or not fetcher.missing():
                    had, since_s = have, case.clock()
                still = case.ledger.course.waiting is not None or case.clock() - since_s >= AWAY_S
                if not coming.done() and still and self._line.contended:
                    return False
            coming.result()  # raises why not
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        return True

    def _teller(self) -> Callable[[Progress], None]:
        """Tells how far it is: at most every few seconds, and at once when it stands still or goes on."""
        case, ledger = self._case, self._case.ledger
        told_s, step = case.clock(), 0

        def tell(now: Progress) -> None:
            nonlocal told_s, step
            course = ledger.course
            waiting = _standing_still(now.waiting)
            loaded = Loaded(now.total, now.have, now.reused, now.bad_chunks)
            course = msgspec.structs.replace(course, loaded=loaded, waiting=waiting)
            changed = (waiting is None) != (ledger.course.waiting is None)
            ledger.course = course
            part = 20 * now.have // max(1, now.total)  # every 5 %, as everywhere in ota.md
            if changed or (case.clock() - told_s >= TELL_EVERY_S and part != step) or now.have == now.total:
                told_s, step = case.clock(), part
                ledger.say(course)

        return tell


def _standing_still(code: str) -> Fault | None:
    if code == "no_blob":
        return fault("no_blob", "chunks that the broker does not have are waited for")
    return fault("slow", "its chunks come too slowly") if code else None
