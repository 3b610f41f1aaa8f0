"""One model's files on this box: the factory model and the stored releases, and which of them can be served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from edged.delivery import documents, envelope, rollout
from edged.delivery.bundle import loadable
from edged.delivery.record import Phase, Record, Stored
from edged.delivery.rollout import Action
from edged.delivery.store import Store
from edged.delivery.strict import Malformed
from edged.disk import hash_of
from edged.errors import EdgedError, Fault, fault
from edged.serving.release import Release

FACTORY_VERSION: Final = 1

log = logging.getLogger("edged.delivery")


class Shelf:
    """What can be served as `model`. `factory_file` "" when the configuration names none.

    `banned(release)` is why nobody may run a release, None for one that may be.
    """

    def __init__(
        self, model: str, factory_file: str, store: Store, banned: Callable[[str], str | None] = lambda _release: None
    ) -> None:
        self.model: Final = model
        self._file = factory_file
        self._store: Final = store
        self.banned: Final = banned
        self.factory: Stored | None = None
        self._signed: Final[dict[str, tuple[documents.Release, Release]]] = {}

    async def open(self) -> None:
        """Looks at the factory file; one that cannot be read is as good as none, and `lacking`."""
        self.factory = await self.look(self._file)

    @property
    def lacking(self) -> Fault | None:
        """The factory file that the configuration names and nobody could read; it may come later, as a disk may."""
        if self.factory is not None or not self._file:
            return None
        hint = "Is it there, and may edged read it (its service sees nothing of /home)? Then `systemctl reload edged`."
        return fault("bad_store", f"its file {self._file} cannot be read", hint)

    async def look(self, factory_file: str) -> Stored | None:
        """What the factory model would be by another configuration, or by what the file holds now; changes nothing."""
        return await asyncio.to_thread(_factory, self.model, Path(factory_file)) if factory_file else None

    async def is_outdated(self, record: Record) -> bool:
        """Whether the factory model answers by this record, or would, and its file holds another one by now."""
        now = self.active(record)
        if now is not None and not now.factory:
            return False
        found = await self.look(self._file)
        return found is not None and found != now

    def adopt(self, factory_file: str, factory: Stored | None) -> None:
        """What `look` has found is the factory model from now on."""
        self._file, self.factory = factory_file, factory

    @property
    def lenders(self) -> tuple[Path, ...]:
        """Files outside of the store that may have chunks of a release."""
        return (Path(self._file),) if self._file else ()

    def active(self, record: Record) -> Stored | None:
        """What answers by this record: the factory model where it names nothing else."""
        if record.active is None or record.active.factory:
            return self.factory
        return record.active

    def release(self, stored: Stored) -> Release:
        """A stored release as what serving loads."""
        return self._release(stored, self._file)

    def future(self, record: Record, factory_file: str, factory: Stored | None) -> Release | None:
        """What would answer by this record with another factory model."""
        stored = factory if record.active is None or record.active.factory else record.active
        return self._release(stored, factory_file) if stored else None

    def _release(self, stored: Stored, factory_file: str) -> Release:
        if stored.release:
            return self._signed[stored.release][1]
        file = factory_file if stored.factory else str(self._store.path(stored.key))
        beside = None if stored.factory else ()
        return Release(self.model, str(stored.version), stored.sha256, file, beside)

    def document(self, stored: Stored) -> documents.Release | None:
        """What was signed; None for the factory model and a simple push. Not before `trouble` has looked at it."""
        return self._signed[stored.release][0] if stored.release else None

    async def intact(self, stored: Stored) -> bool:
        """Whether its files are there and what they should be."""
        problem = await self.trouble(stored)
        if problem is not None and problem.code != "bad_store":
            log.error("version %s: %s", stored.version, problem.message, extra={"code": problem.code})
        return problem is None

    async def trouble(self, stored: Stored) -> Fault | None:
        """Why it cannot be loaded: bad_store, or a signed release's bad_settings."""
        if stored.factory:
            whole = self.factory is not None and await self.look(self._file) == self.factory
        else:
            whole = await asyncio.to_thread(self._store.intact, stored.key)
        if not whole:
            return fault("bad_store", "its file is missing or damaged")
        if stored.release and stored.release not in self._signed:
            try:
                self._signed[stored.release] = await asyncio.to_thread(self._read, stored.release)
            except EdgedError as error:
                return error.fault
        return None

    def _read(self, key: str) -> tuple[documents.Release, Release]:
        content = self._store.document(key) or b""
        try:
            document = documents.read_release(envelope.decode(content, "release").payload)
        except Malformed as error:
            raise EdgedError("bad_store", f"its document is damaged: {error}") from error
        return document, loadable(document, self._store.folder(key))

    async def way_back(self, record: Record) -> Stored | None:
        """What to go back to: the previous release when its file is whole, else the factory model, else nothing."""
        now = self.active(record)
        for choice in (record.previous, self.factory):
            stored = self.factory if choice is not None and choice.factory else choice
            if stored is None or (now is not None and stored.key == now.key) or self.banned(stored.release) is not None:
                continue
            if await self.intact(stored):
                return stored
        return None

    def has_way_back(self, record: Record) -> bool:
        """As `way_back`, without looking at the disk."""
        return record.previous is not None or (self.factory is not None and record.active is not None)


async def resume(record: Record, shelf: Shelf) -> tuple[Record, Fault | None]:
    """What a start makes of `record`, with a shelf just opened, and the fault when nothing is left to serve.

    Counts the attempt, goes back where there were too many, and checks the file that would be loaded.
    """
    found, event = rollout.restarted(record)
    found = msgspec.structs.replace(found, highest=max(found.highest, FACTORY_VERSION if shelf.factory else 0))
    what = rollout.action(found.phase, event)
    if what is Action.DROP:
        found = rollout.failed(found, fault("trial_crash_loop", f"{rollout.TRIALS} trials of it were cut short"))
    elif what is Action.GO_BACK:
        problem = fault("probation_crash", f"{rollout.LOADS} starts of the daemon did not outlive its probation")
        found = rollout.faulted(found, problem, await shelf.way_back(found))
    active = shelf.active(found)
    # The factory file was hashed a moment ago: what becomes of it since then, whoever loads it will say.
    if active is None or active.factory or await shelf.intact(active):
        return found, shelf.lacking if active is None else None
    problem = fault("bad_store", f"the file of version {active.version} is missing or damaged")
    log.error("%s", problem.message, extra={"model": shelf.model, "code": problem.code})
    back_to = await shelf.way_back(found)
    lost_on_probation = found.phase is Phase.PROBATION
    found = rollout.faulted(found, problem, back_to) if lost_on_probation else rollout.lost(found, problem, back_to)
    return found, problem if back_to is None else None


def _factory(model: str, file: Path) -> Stored | None:
    try:
        return Stored(FACTORY_VERSION, hash_of(file), file.stat().st_size, factory=True)
    except OSError as error:
        log.error("the factory model cannot be read: %s", error, extra={"model": model, "code": "bad_store"})
        return None
