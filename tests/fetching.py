"""A fetcher on the courier in memory, and what a release that has arrived looks like on the disk."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable

from edged.delivery.chunks import PATIENCE_S
from edged.delivery.documents import Release
from edged.delivery.fetcher import Fetcher, Progress
from edged.delivery.store import Store
from tests.couriers import Broker, MemoryCourier, key_of, unsigned


class Box:
    """A fetcher on a courier, and what it reported. With a short `patience_s` silence and damage cost little time, and
    a busy machine may look like silence.
    """

    def __init__(self, store: Store, broker: Broker | None = None, patience_s: float = PATIENCE_S) -> None:
        self.store = store
        self.broker = broker or Broker()
        self.courier: MemoryCourier = self.broker.courier()
        self.fetcher = Fetcher(self.courier, store, self.broker.ota, patience_s=patience_s)
        self.courier.callbacks(
            lambda topic, payload, retained: self.fetcher.on_document(topic, payload, retained=retained),
            lambda up: self.fetcher.on_connected() if up else self.fetcher.on_lost(),
        )
        self.reports: list[Progress] = []
        self._reported = asyncio.Event()

    def report(self, progress: Progress) -> None:
        self.reports.append(progress)
        self._reported.set()

    def fetch(self, document: Release) -> Awaitable[None]:
        return self.fetcher.files(key_of(document), unsigned(document), document, self.report)

    async def until(self, condition: Callable[[Progress], bool]) -> None:
        async with asyncio.timeout(30):
            while not (self.reports and condition(self.reports[-1])):
                self._reported.clear()
                await self._reported.wait()


def run(scenario: Awaitable[None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await scenario

    asyncio.run(limited())


def holds(store: Store, document: Release, contents: dict[str, bytes]) -> bool:
    """Exactly these files, whole, read-only, and nothing else."""
    folder = store.folder(key_of(document))
    assert {path.name for path in folder.iterdir()} == {*contents, "release.json"}
    assert all(stat.S_IMODE((folder / name).stat().st_mode) == 0o440 for name in contents)
    assert all((folder / name).read_bytes() == content for name, content in contents.items())
    return store.intact(key_of(document))
