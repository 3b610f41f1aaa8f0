"""Whose turn it is to fetch: one model of the box at a time, and one that stands still lets the others by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final


class Line:
    """First come, first served."""

    def __init__(self) -> None:
        self._lock: Final = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for one's turn, and has it."""
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._lock.release()

    @property
    def contended(self) -> bool:
        """Whether somebody else waits."""
        return self._waiting > 0
