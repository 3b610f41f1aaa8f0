"""When a model's process dies: which inputs are suspect, and when the model itself is at fault (RULES 13).

- Only the oldest unanswered batch is suspect; the others go back to the head of the lane.
- Suspects run again one at a time, with nothing else in flight; the one that ends a process then is poison.
- 3 deaths in 60 s with no poison found: the generation is faulty. A death counts only when fewer than
  100 inputs were answered since the one before; finding a poison input starts the count anew.
- A faulty model is started again after a pause that doubles from 1 s to 5 min.

Pure: the clock comes in as an argument.
"""

from __future__ import annotations

import collections
from typing import Final

WINDOW_S: Final = 60.0
FAULTY: Final = 3
HEALTHY_RUN: Final = 100
FIRST_PAUSE_S: Final = 1.0
LAST_PAUSE_S: Final = 300.0


class Deaths:
    """The count of one model's deaths."""

    def __init__(self) -> None:
        self._deaths: collections.deque[float] = collections.deque(maxlen=FAULTY)
        self._pause_s = FIRST_PAUSE_S

    def died(self, now_s: float, *, answered: int) -> bool:
        """Counts a death after `answered` inputs; True when the generation is faulty."""
        if answered >= HEALTHY_RUN:
            self._deaths.clear()
            self._pause_s = FIRST_PAUSE_S
        self._deaths.append(now_s)
        return len(self._deaths) == FAULTY and now_s - self._deaths[0] <= WINDOW_S

    def forgive(self) -> None:
        """An input was to blame, or another release answers now."""
        self._deaths.clear()
        self._pause_s = FIRST_PAUSE_S

    def pause_s(self) -> float:
        """How long to wait before the next start; doubles each time."""
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, LAST_PAUSE_S)
        return pause_s
