"""How long what one client has sent together may keep the others waiting.

A read brings thousands of requests that are answered at once, and each may take a fraction of a millisecond: after
2 ms the loop serves others before it goes on with the rest.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

_TURN_S: Final = 0.002


class Courtesy:
    """One connection's. While it `yields`, nothing more of what has been read is taken; `go_on` is called then."""

    __slots__ = ("_clock", "_go_on", "_until_s", "yields")

    def __init__(self, clock: Callable[[], float], go_on: Callable[[], None]) -> None:
        self._clock = clock
        self._go_on = go_on
        self._until_s = math.inf
        self.yields = False

    def begin(self) -> None:
        """What was read is going to be taken, from the first request on."""
        self._until_s = self._clock() + _TURN_S

    def between(self) -> None:
        """There is more to be taken: now, or, where it `yields` from here on, when others had their turn."""
        if self._clock() >= self._until_s:
            self.yields = True
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        self.yields = False
        self._go_on()
