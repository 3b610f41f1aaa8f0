"""Pushed files on their way in: bounded, hashed off the loop, refused at once where the rules say so.

Each model's own installation then takes its file through rollout's table.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from edged.config.schema import Model, Push
from edged.delivery.audit import Decision
from edged.delivery.installation import Installation
from edged.delivery.ledger import Audit, Publish, Pushed
from edged.delivery.report import Subject
from edged.delivery.rollout import Phase, Record
from edged.delivery.shelf import Shelf
from edged.delivery.store import Store
from edged.delivery.trail import journal
from edged.errors import EdgedError, Fault, fault
from edged.serving.release import Release
from edged.serving.route import Route

INBOX: Final = 16  # pushes that wait to be hashed; their bytes are bounded besides

log = logging.getLogger("edged.delivery")


class _Arrived(msgspec.Struct, frozen=True):
    model: str
    payload: bytes
    version: str | None
    retained: bool


class Installer:
    """All models of the box. `open` before anything is served, `run` while the daemon runs, then `stop`.

    `publish(model, status)` and `audit(decision)` are called in the loop and must not block.
    """

    def __init__(
        self,
        models: Iterable[Model],
        settings: Push,
        store: Store,
        *,
        route: Callable[[str], Route],
        publish: Publish,
        audit: Audit = journal,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._turn: Final = asyncio.Lock()
        self._settings = settings
        self._store: Final = store
        self._audit: Final = audit
        self._inbox: Final[asyncio.Queue[_Arrived]] = asyncio.Queue(INBOX)
        self._inbox_bytes = 0
        self._publish: Final = publish
        self._clock: Final = clock
        self._group: asyncio.TaskGroup | None = None
        self._tasks: Final[dict[str, asyncio.Task[None]]] = {}
        self._models: Final = {model.name: self._installation(model, route(model.name)) for model in models}

    def _installation(self, model: Model, route: Route) -> Installation:
        return Installation(
            Shelf(model.name, model.file, self._store),
            self._store,
            route,
            self._settings,
            turn=self._turn,
            publish=self._publish,
            audit=self._audit,
            clock=self._clock,
        )

    async def open(self) -> None:
        """Takes the store and counts the attempts. Raises EdgedError state_in_use, OSError."""
        records = await asyncio.to_thread(self._store.open)
        for name, installation in self._models.items():
            await installation.open(records.get(name, Record()))

    def boot_release(self, model: str) -> Release | None:
        """What to serve at start; None: `boot_fault` says why, or the model waits for its first push."""
        return self._models[model].boot_release()

    def boot_fault(self, model: str) -> Fault | None:
        """bad_store when every file that could be served is missing or damaged."""
        return self._models[model].boot_fault

    def phase(self, model: str) -> Phase:
        """Where a model stands. Raises KeyError for an unknown one."""
        return self._models[model].phase

    async def run(self) -> None:
        """Works until `stop`. What it raises is a mistake in edged, and ends the daemon."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._tasks[""] = group.create_task(self._receive())
            for name, one in self._models.items():
                self._tasks[name] = group.create_task(one.run())

    async def stop(self, *, clean: bool = True) -> None:
        """Ends the trial under way and closes the store; a `clean` stop gives back the attempts that began."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for installation in self._models.values() if clean else ():
            await installation.stop()
        await asyncio.to_thread(self._store.close)

    # --- other settings -----------------------------------------------------------------------------

    def model(self, name: str) -> Installation:
        """Raises KeyError for an unknown one."""
        return self._models[name]

    async def newcomer(self, model: Model, route: Route) -> Installation:
        """A model that is not here yet, with what the store knows of it; `add` makes it one of the box's."""
        installation = self._installation(model, route)
        await installation.open(self._store.record(model.name))
        return installation

    def add(self, name: str, installation: Installation) -> None:
        """From now on it takes pushes, by the settings that hold now."""
        if self._group is None:
            raise RuntimeError("not before `run`")
        installation.adopt(self._settings)
        self._models[name] = installation
        self._tasks[name] = self._group.create_task(installation.run())

    async def remove(self, name: str) -> None:
        """Forgets a model; what the store knows of it stays, for the day on which it comes back."""
        installation, task = self._models.pop(name), self._tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await installation.stop()

    def adopt(self, settings: Push) -> None:
        """Other settings for pushes that arrive from now on."""
        self._settings = settings
        for installation in self._models.values():
            installation.adopt(settings)

    # --- in the loop --------------------------------------------------------------------------------

    def on_push(self, model: str, payload: bytes, version: str | None, retained: bool) -> None:  # noqa: FBT001 - a callback
        """Takes a pushed file; its fate is published. `version` is the user property as it came."""
        if retained and not payload:
            return  # somebody has cleared a retained push
        arrived = _Arrived(model, payload, version, retained)
        held = self._inbox_bytes + sum(one.waiting_bytes for one in self._models.values())
        known = self._models.get(model)
        if known is None:
            log.warning("a push for an unknown model", extra={"model": model, "code": "unknown_model"})
        elif self._inbox.full() or (held and held + len(payload) > 2 * self._settings.max_size):
            known.reject(Subject(size=len(payload)), fault("busy", "other pushes are waiting already"))
        else:
            self._inbox_bytes += len(payload)
            self._inbox.put_nowait(arrived)

    def refuse(self, model: str, problem: Fault) -> None:
        """A push that was refused before it got here; says so."""
        if model in self._models:
            self._models[model].reject(Subject(), problem)

    async def rollback(self, model: str, by: str = "") -> dict[str, object]:
        """The operator's way back to the previous version; returns the status after it. `by`: who asked.

        Raises EdgedError unknown_model, busy, no_previous.
        """
        try:
            return await self._known(model).rollback(by)
        except EdgedError as error:
            text = f"no way back: {error.fault.message}"
            self._audit(Decision("rollback_refused", text, model[:64], code=error.fault.code, by=by))
            raise

    def _known(self, model: str) -> Installation:
        if model not in self._models:
            raise EdgedError("unknown_model", f"no model {model[:64]!r} here")
        return self._models[model]

    async def _receive(self) -> None:
        while True:
            arrived = await self._inbox.get()
            digest = await asyncio.to_thread(hashlib.sha256, arrived.payload)
            subject = Subject(digest.hexdigest(), 0, len(arrived.payload))
            problem, version = self._refusal(arrived)
            self._inbox_bytes -= subject.size
            installation = self._models.get(arrived.model)
            if installation is None:  # taken out of the configuration meanwhile
                log.warning("a push for an unknown model", extra={"model": arrived.model, "code": "unknown_model"})
            elif problem is not None:
                installation.reject(subject, problem)
            else:
                installation.push(Pushed(arrived.payload, subject.sha256, version))

    def _refusal(self, arrived: _Arrived) -> tuple[Fault | None, int | None]:
        """Why the push is refused as it came, and its version as a number."""
        size, limit = len(arrived.payload), self._settings.max_size
        if arrived.retained:
            return fault("retained_push", "the push was retained: each new connection would bring it again"), None
        if self._settings.require_signature:
            return fault("unsigned", "this box takes signed pushes only"), None
        if size > limit:
            return fault("too_large", f"{size} bytes are above push.max_size of {limit}", "Raise push.max_size."), None
        if not size:
            return fault("not_a_model", "the push is empty"), None
        if arrived.version is None:
            return None, None
        text = arrived.version.strip()
        if not (text.isascii() and text.isdigit()) or not 0 < len(text) < 16 or int(text) < 1:
            return fault("bad_version", f"{arrived.version[:40]!r} is not a positive whole number"), None
        return None, int(text)
