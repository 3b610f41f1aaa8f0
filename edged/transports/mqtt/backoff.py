"""How long to wait before the next connection: 1 s, doubling to 30 s, spread so that a fleet does not come at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

_FIRST_S: Final = 1.0
_MOST_S: Final = 30.0


class Backoff:
    """`chance` gives numbers from 0 to 1; each wait is 0.75 to 1.25 times its step."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._step_s = _FIRST_S

    def next_s(self) -> float:
        wait_s = self._step_s * (0.75 + 0.5 * self._chance())
        self._step_s = min(self._step_s * 2, _MOST_S)
        return wait_s

    def reset(self) -> None:
        self._step_s = _FIRST_S
