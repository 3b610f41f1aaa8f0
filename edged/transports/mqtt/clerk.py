"""The thread that does what blocks for the outbox, one thing at a time, and what its disk is told to be like."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)
_CODE: Final = {"code": "outbox_failed"}


class Clerk:
    """`fault` is why nothing can be written, "" when it can."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "edged-mqtt-outbox")
        self.fault = ""

    async def do(self, step: Callable[[], T]) -> T:
        """Raises OSError when the disk would not."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, step)

    async def attempt(self, step: Callable[[], T]) -> T | None:
        """What may be done another time, or not at all; None when the disk would not."""
        try:
            return await self.do(step)
        except OSError as error:
            _log.debug("the outbox: %s", error)
            return None

    async def write(self, step: Callable[[], T]) -> T | None:
        """None when the disk would not. That it would not, and that it does again, is told once."""
        try:
            done = await self.do(step)
        except OSError as error:
            self._tell(f"the outbox cannot be written: {error.strerror or error}")
            return None
        self._tell("")
        return done

    def _tell(self, fault: str) -> None:
        if fault and fault != self.fault:
            _log.error("%s; results are dropped while the broker is away", fault, extra=_CODE)
        elif self.fault and not fault:
            _log.info("the outbox can be written again")
        self.fault = fault

    def end(self) -> None:
        self._pool.shutdown(wait=False)
