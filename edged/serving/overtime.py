"""How long a worker has been running what it runs, and when that is past `limits.run` (RULES 8, 10).

It runs one batch at a time: of its channel, or of the clients of its own socket. Of those it notes the beginning in
memory that is looked at here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from edged.door import Underway

_LOOKS: Final = 8  # in the time that a run may take: what begins meanwhile is noticed so much later at most
_SHORTEST_S, _LONGEST_S = 0.02, 1.0


class Overtime:
    """`oldest_sent_s` tells when the oldest batch of the channel was sent, None for none; `late` ends the process."""

    def __init__(self, limit_s: float, oldest_sent_s: Callable[[], float | None], late: Callable[[], None]) -> None:
        self.limit_s = limit_s
        self._oldest_sent_s: Final = oldest_sent_s
        self._late: Final = late
        self._loop = asyncio.get_running_loop()
        self._answered_s = 0.0
        self._underway: Underway | None = None
        self._watch: asyncio.TimerHandle | None = None

    def sent(self) -> None:
        """A batch was sent."""
        if self._watch is None:
            self._watch = self._loop.call_later(self.limit_s, self._look)

    def answered(self) -> None:
        """A batch was answered."""
        self._answered_s = time.monotonic()

    def look_at(self, underway: Underway | None) -> None:
        """From now on, what the worker notes there counts too; None: not any more."""
        self._underway = underway
        self.stop()
        self._look()

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def oldest_s(self, now_s: float) -> float:
        """How long it has been running what it runs; 0 for nothing.

        A batch of the channel counts from when it was sent, or from the end of what was run before it.
        """
        before_s = self._answered_s
        if self._underway is not None:
            if began_s := self._underway.started_s:
                return now_s - began_s
            before_s = max(before_s, min(self._underway.ended_s, now_s))
        sent_s = self._oldest_sent_s()
        return 0.0 if sent_s is None else now_s - max(sent_s, before_s)

    def _look(self) -> None:
        self._watch = None
        running_s = self.oldest_s(time.monotonic())
        if running_s >= self.limit_s:
            self._late()
            return
        if running_s or self._oldest_sent_s() is not None:
            self._watch = self._loop.call_later(self.limit_s - running_s, self._look)
        elif self._underway is not None:
            pause_s = min(max(self.limit_s / _LOOKS, _SHORTEST_S), _LONGEST_S)
            self._watch = self._loop.call_later(pause_s, self._look)
