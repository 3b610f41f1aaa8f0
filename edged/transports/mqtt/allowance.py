"""At most so many a second, per name: keeps a flood of bad inputs from becoming a flood of errors."""

from __future__ import annotations


class Allowance:
    """A bucket per name that holds one second's worth and fills at `rate` a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str, now_s: float) -> bool:
        """Whether one more may go now. `now_s` is of the monotonic clock."""
        tokens, then_s = self._buckets.get(name, (self._rate, now_s))
        tokens = min(self._rate, tokens + (now_s - then_s) * self._rate)
        self._buckets[name] = (tokens - 1 if tokens >= 1 else tokens, now_s)
        return tokens >= 1
