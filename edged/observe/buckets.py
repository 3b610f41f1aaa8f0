"""The buckets into which durations are counted: finer than those that are promised, so that an interval's p50 and p99
come from the same numbers. The daemon's counters use them, and a worker that serves clients itself.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

BUCKETS_S: Final = tuple(float(f"{step}e{power}") for power in range(-5, 2) for step in ("1", "2.5", "5"))
SPLIT: Final = 8  # parts of a promised bucket: a percentile is off by less than 2.5 ** (1/8), 12 %
BOUNDS_S: Final[tuple[float, ...]] = (
    *(low * (high / low) ** (part / SPLIT) for low, high in pairwise(BUCKETS_S) for part in range(SPLIT)),
    BUCKETS_S[-1],
)
