"""What every step of one model's way works on: its shelf, its route, its ledger, the store and the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from edged.delivery.ledger import Ledger
from edged.delivery.shelf import Shelf
from edged.delivery.store import Store
from edged.serving.route import Route


class Case(msgspec.Struct, frozen=True, eq=False):
    """`turn` is held by the one model of the box that stages, tries and switches. `clock` is monotonic seconds."""

    shelf: Shelf
    store: Store
    route: Route
    ledger: Ledger
    turn: asyncio.Lock
    clock: Callable[[], float]
    wake: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    async def pause(self, seconds: float | None) -> None:
        """Waits until somebody wakes the model's task, or the time is over."""
        try:
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        except TimeoutError:
            return
