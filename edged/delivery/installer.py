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
from edged.delivery import trust
from edged.delivery.audit import Decision
from edged.delivery.installation import Installation
from edged.delivery.ledger import Audit, Publish, Pushed
from edged.delivery.line import Line
from edged.delivery.orders import Clock, Orders
from edged.delivery.record import Order, Phase, Record
from edged.delivery.report import Subject
from edged.delivery.shelf import Shelf
from edged.delivery.store import Store
from edged.delivery.trail import journal
from edged.delivery.want import Box
from edged.errors import EdgedError, Fault, fault
from edged.serving.release import Release
from edged.serving.route import Route
from edged.topics import Ota

INBOX: Final = 16  # pushes that wait to be hashed; their bytes are bounded besides

log = logging.getLogger("edged.delivery")


class _Arrived(msgspec.Struct, frozen=True):
    model: str
    payload: bytes
    version: str | None
    retained: bool


class Installer:
    """All models of the box. `open` before anything is served, `run` while the daemon runs, then `stop`.

    `publish(model, status)`, `audit(decision)` and `refused(code)`, which counts documents, are called in the loop and
    must not block.
    """

    def __init__(
        self,
        models: Iterable[Model],
        settings: Push,
        store: Store,
        *,
        route: Callable[[str], Route],
        publish: Publish,
        box: Box,
        ota: Ota,
        audit: Audit = journal,
        refused: Callable[[str], None] = lambda _code: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Clock = Clock(),  # noqa: B008 - a frozen value
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
        self._line: Final = Line()
        self._models: Final[dict[str, Installation]] = {}
        self.arrived: tuple[str, ...] = ()  # models that no configuration names, and that answered or were wanted
        self.orders: Final = Orders(
            box,
            ota,
            store,
            self._models,
            settings=lambda: self._settings,
            audit=audit,
            clock=wall,
            refused=refused,
        )
        self._models.update({model.name: self._installation(model, route(model.name)) for model in models})

    def _installation(self, model: Model, route: Route) -> Installation:
        return Installation(
            Shelf(model.name, model.file, self._store, self.orders.banned),
            self._store,
            route,
            self._settings,
            turn=self._turn,
            line=self._line,
            fleet=self.orders,
            publish=self._publish,
            audit=self._audit,
            clock=self._clock,
        )

    async def open(self) -> None:
        """Takes the store and counts the attempts. Raises EdgedError state_in_use, bad_store, OSError."""
        records = await asyncio.to_thread(self._store.open)
        if self._store.damaged:
            self._audit(Decision("damaged", self._store.damaged, code="bad_store"))
        await self.orders.open()
        for name, installation in self._models.items():
            await installation.open(msgspec.structs.replace(records.get(name, Record()), arrived=False))
        arrived = {name: one for name, one in records.items() if one.arrived and (one.active or one.wanted)}
        self.arrived = tuple(name for name in arrived if name not in self._models)

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
            self._tasks[" orders"] = group.create_task(self.orders.run())
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
        """From now on it takes pushes, by the settings that hold now: at once, or when `run` begins."""
        installation.adopt(self._settings)
        self._models[name] = installation
        if self._group is not None:
            self._tasks[name] = self._group.create_task(installation.run())
        self.orders.listen_anew()

    async def remove(self, name: str) -> None:
        """Forgets a model; what the store knows of it stays, for the day on which it comes back."""
        installation, task = self._models.pop(name), self._tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await installation.stop()
        self.orders.listen_anew()

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

    # --- what a person wants ------------------------------------------------------------------------

    async def rollback(self, model: str, by: str = "") -> dict[str, object]:
        """The operator's way back to the previous version; returns the status after it. `by`: who asked.

        It holds against every want until `unpin`. Raises EdgedError unknown_model, busy, no_previous.
        """
        try:
            return await self._known(model).hand.rollback(by)
        except EdgedError as error:
            text = f"no way back: {error.fault.message}"
            self._audit(Decision("rollback_refused", text, model[:64], code=error.fault.code, by=by))
            raise

    async def pin(self, model: str, version: int, by: str) -> dict[str, object]:
        """Holds a model at a version that is on the box. Raises EdgedError unknown_model, bad_version, busy."""
        return await self._known(model).hand.pin(version, by)

    async def unpin(self, model: str, by: str) -> dict[str, object]:
        """Lets wants count again. Raises EdgedError unknown_model, not_found."""
        return await self._known(model).hand.unpin(by)

    async def load(self, model: str, by: str) -> dict[str, object]:
        """Serves a model again that was unloaded or has failed; returns the status. Raises EdgedError."""
        return await self._known(model).hand.load(by)

    async def unload(self, model: str, by: str) -> dict[str, object]:
        """Ends a model's processes until `load`. Raises EdgedError unknown_model, busy."""
        return await self._known(model).hand.unload(by)

    async def release_manual(self, model: str, by: str) -> dict[str, object]:
        """Lets a release go on that waits for a person. Raises EdgedError unknown_model, not_found."""
        return await self._known(model).hand.release_manual(by)

    async def install_local(self, envelope: bytes, by: str) -> dict[str, object]:
        """A person's word in place of a want: installs the release with this envelope; returns the status.

        Its chunks come by `offer`, as `missing` tells. Raises EdgedError signature,
        bad_document, no_trust, unknown_model, pinned.
        """
        signed = await asyncio.to_thread(trust.release, self.orders.believed(), envelope)
        await self.orders.recipient(signed.document.model)
        one = self._known(signed.document.model)
        held = one.record.held
        if held is not None and held.pinned:
            text = f"{held.by} holds {signed.document.model} at its version"
            raise EdgedError("pinned", text, f"`edged unpin {signed.document.model}` first.")
        order = Order(signed.sha256, signed.document.version, by=by)
        await one.order(order, one.record.seen, envelope)
        return one.status()

    def missing(self) -> tuple[str, ...]:
        """The hashes of chunks that are waited for now."""
        return self.orders.fetcher.missing()

    def offer(self, sha256: str, payload: bytes) -> bool:
        """A chunk that somebody has; whether it was wanted, and is what it is called."""
        return self.orders.fetcher.offer(sha256, payload)

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
