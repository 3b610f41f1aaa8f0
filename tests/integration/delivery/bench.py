"""Delivery on the real store, with tests/routes.py's processes, and writes that can be made to go wrong."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from edged.config.schema import Model, Probation, Push
from edged.config.units import Duration
from edged.delivery.audit import Decision
from edged.delivery.installer import Installer
from edged.delivery.orders import Clock
from edged.delivery.record import Phase, Record
from edged.delivery.store import Store
from edged.delivery.trail import journal
from edged.delivery.want import Box
from edged.disk import hash_of
from edged.topics import Ota
from tests.routes import MemoryRoute

SETTINGS = Push(require_signature=False, probation=Probation(Duration(0.05), 10))
OLD, NEW = b"good old", b"good new"
PATIENCE_S = 20.0

T = TypeVar("T")


class Killed(Exception):
    """The daemon would be gone."""


class Saboteur(Store):
    """A store whose `at`th write goes wrong: `killed before`, `killed after`, or the name of an errno."""

    def __init__(self, root: Path, at: int = 0, how: str = "") -> None:
        super().__init__(root)
        self.at, self.how, self.writes = at, how, 0

    def stage(self, payload: bytes) -> str:
        return self._sabotaged(lambda: Store.stage(self, payload))

    def commit(self, model: str, record: Record) -> None:
        self._sabotaged(lambda: Store.commit(self, model, record))

    def _sabotaged(self, write: Callable[[], T]) -> T:
        self.writes += 1
        if self.writes != self.at:
            return write()
        if self.how == "killed after":
            write()
        if self.how.startswith("killed"):
            raise Killed
        number = int(getattr(errno, self.how))
        raise OSError(number, os.strerror(number))


class Bench:
    """A daemon as far as delivery knows it: one model `m` with a factory file."""

    models: tuple[str, ...] = ("m",)
    box = Box("box")

    def __init__(self, root: Path, store: Store, settings: Push = SETTINGS) -> None:
        factory = root / "factory.onnx"
        self.routes = {name: MemoryRoute() for name in self.models}
        self.route = self.routes["m"]
        self.statuses: list[dict[str, object]] = []
        self.decisions: list[Decision] = []
        self.refused: list[str] = []
        self.installer = Installer(
            [Model(name, str(factory) if factory.exists() else "") for name in self.models],
            settings,
            store,
            route=lambda model: self.routes[model].as_route(),
            publish=self._publish,
            box=self.box,
            ota=Ota("edged"),
            wall=self.clock(),
            audit=self._audit,
            refused=self.refused.append,
        )
        self.deaf = False  # whoever should hear of statuses fails

    def clock(self) -> Clock:
        return Clock()

    def _publish(self, model: str, status: dict[str, object]) -> None:
        if self.deaf:
            raise OSError(model)
        self.statuses.append(status)

    def _audit(self, decision: Decision) -> None:
        self.decisions.append(decision)
        journal(decision)

    @property
    def serving(self) -> bytes:
        """The file that answers."""
        live = self.route.live
        return Path(live.release.file).read_bytes() if live is not None else b""

    def push(self, payload: bytes, version: str | None = None, *, retained: bool = False) -> None:
        self.installer.on_push("m", payload, version, retained)

    async def until(self, *wanted: str) -> dict[str, object]:
        """Waits for a status with one of these phases or verdicts; statuses up to it are forgotten."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for index, status in enumerate(self.statuses):
                    if {status["phase"], status["verdict"]} & set(wanted):
                        del self.statuses[: index + 1]
                        return status
                await asyncio.sleep(0.002)

    async def started(self) -> bool:
        """Waits for the fate of a push: whether it answers now, on probation."""
        await self.until("probation", "rejected", "failed")
        while self.installer.phase("m") is Phase.PROBATION:
            if self.route.live is not None and self.route.previous is not None:
                return True
            await asyncio.sleep(0.002)
        return False

    async def answered_by(self, payload: bytes) -> None:
        """Waits until this file answers."""
        async with asyncio.timeout(PATIENCE_S):
            while self.serving != payload:  # noqa: ASYNC110 - what is watched is the route, from outside
                await asyncio.sleep(0.002)

    async def rest(self) -> None:
        """Waits until nothing is under way, and helps a probation along."""
        async with asyncio.timeout(PATIENCE_S):
            while self.installer.phase("m") is not Phase.IDLE:
                await self._help()

    async def fate(self, payload: bytes) -> dict[str, object]:
        """Waits for the verdict on a file, and helps a probation along."""
        sha256 = hashlib.sha256(payload).hexdigest()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for status in self.statuses:
                    about = msgspec.convert(status["push"], dict[str, str])
                    if status["verdict"] and about["sha256"] == sha256:
                        return status
                await self._help()

    async def _help(self) -> None:
        for name, route in self.routes.items():
            if self.installer.phase(name) is Phase.PROBATION and route.live is not None:
                route.live.tally.runs += 10
        await asyncio.sleep(0.005)

    def did(self, *, runs: int = 0, faults: int = 0) -> None:
        """The live model has answered."""
        if self.route.live is not None:
            self.route.live.tally.runs += runs
            self.route.live.tally.faults += faults


async def during(
    root: Path,
    store: Store,
    course: Callable[[Bench], Awaitable[None]],
    settings: Push = SETTINGS,
    make: Callable[[Path, Store, Push], Bench] = Bench,
) -> Bench:
    """Boots, runs the course, and stops cleanly. Raises Killed when the daemon did not live that long."""
    bench = make(root, store, settings)
    try:
        await bench.installer.open()
        for name, route in bench.routes.items():
            release = bench.installer.boot_release(name)
            if release is not None:
                assert hash_of(Path(release.file)) == release.sha256
                await route.serve(release)
        running = asyncio.create_task(bench.installer.run())
        acting = asyncio.ensure_future(course(bench))
        await asyncio.wait({running, acting}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            acting.cancel()
            await running
        await acting
        await bench.installer.stop()
        await running
    except* Killed:
        raise Killed from None
    finally:
        store.close()
    return bench
