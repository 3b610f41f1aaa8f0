"""At most so many a second, per name: of inputs, or of errors so that a flood of bad inputs is none of errors."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_NAMES: Final = 1024  # that are remembered; the one that is longest unused begins anew


class Allowance:
    """A bucket per name that holds one second's worth, one at least, and fills at `rate` a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(1.0, rate)
        self._buckets: OrderedDict[int, tuple[float, float]] = OrderedDict()  # by hash: a topic may have 64 KiB

    def take(self, name: str, now_s: float) -> bool:
        """Whether one more may go now. `now_s` is of the monotonic clock."""
        number = hash(name)
        tokens, then_s = self._buckets.pop(number, (self._most, now_s))
        tokens = min(self._most, tokens + (now_s - then_s) * self._rate)
        self._buckets[number] = (tokens - 1 if tokens >= 1 else tokens, now_s)
        if len(self._buckets) > _NAMES:
            self._buckets.popitem(last=False)
        return tokens >= 1
