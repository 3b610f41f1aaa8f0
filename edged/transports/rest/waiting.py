"""The requests that wait for a model's outcome: nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from edged.errors import Fault, fault
from edged.messages import Outcome

_SWEEP_S: Final = 1.0


class Waiting:
    """Futures for outcomes, each with the time after which it is answered `deadline` come what may.

    The deadline itself is the lane's; this is the net below it. One sweep a second for all of them,
    because a timer for each would cost as much as the rest of the wait.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._latest_s: dict[asyncio.Future[Outcome], float] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._latest_s)

    def open(self, latest_s: float) -> asyncio.Future[Outcome]:
        """A future that has an outcome at `latest_s` of the clock, or a sweep later."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._latest_s[future] = latest_s
        if self._sweep is None:
            self._sweep = loop.call_later(_SWEEP_S, self._swept)
        return future

    def close(self, future: asyncio.Future[Outcome]) -> None:
        del self._latest_s[future]

    def give_up(self, problem: Fault) -> None:
        """Gives all of them this outcome."""
        for future in self._latest_s:
            settle(future, problem)

    def _swept(self) -> None:
        now_s = self._clock()
        for future, latest_s in self._latest_s.items():
            if latest_s < now_s:
                settle(future, fault("deadline", "no outcome came, long after the deadline"))
        self._sweep = None
        if self._latest_s:
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self._swept)


def settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    """The first outcome counts; a later one, or one for a client that went away, is dropped."""
    if not future.done():
        future.set_result(outcome)
