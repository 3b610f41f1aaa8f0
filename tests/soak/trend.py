"""Whether a series of measurements grows: the statistics of the soak test. Pure.

A process that leaks grows as long as it works; one that does not still takes a page here and gives one back there,
and grows for a while at first, as caches and histories fill. So the second half counts alone, and of that medians of
`BLOCKS` pieces, which are nearly independent. Their Theil-Sen slope (the median of the slopes of all pairs) cares
little for outliers, and the interval around it is Sen's, from the variance of Kendall's S (Sen 1968; Hollander and
Wolfe, Nonparametric Statistical Methods, 9.3). It grows when even the lower end of the interval adds up to more than a
given room over the half: one step, however high, is no slope.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BLOCKS: Final = 24
_LEAST: Final = 6  # of blocks, or the interval has no ends
_NORMAL: Final = 2.576  # 99 % lie within so many standard deviations

Point = tuple[float, float]  # seconds, value


@dataclass(frozen=True)
class Trend:
    """How much the values grow over the second half, by the slope, and the lower end of its 99 % interval."""

    growth: float
    least: float

    def grows(self, room: float) -> bool:
        """Whether even the least is more than `room`."""
        return self.least > room

    def noticed(self, room: float) -> float:
        """The smallest steady growth that, added to these very values, would have been noticed."""
        return max(room - self.least, 0)


def trend(points: Sequence[Point]) -> Trend | None:
    """Of points in the order of their times; None for fewer than a slope can be told from."""
    half = second_half(points)
    count = min(BLOCKS, len(half))
    if count < _LEAST:
        return None
    edges = [index * len(half) // count for index in range(count + 1)]
    blocks = [_middle(half[start:end]) for start, end in itertools.pairwise(edges)]
    slopes = sorted(
        (value - before) / (at_s - before_s)
        for (before_s, before), (at_s, value) in itertools.combinations(blocks, 2)
        if at_s > before_s
    )
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    lower = max(int((len(slopes) - _NORMAL * deviation) / 2), 0)
    length_s = half[-1][0] - half[0][0]
    return Trend(statistics.median(slopes) * length_s, slopes[lower] * length_s)


def second_half(points: Sequence[Point]) -> list[Point]:
    """Those that lie behind the middle of the time."""
    if not points:
        return []
    middle_s = (points[0][0] + points[-1][0]) / 2
    return [point for point in points if point[0] >= middle_s]


def rises(points: Sequence[Point]) -> float:
    """By how much the lowest value of the last quarter is above that of the second: what a process holds when little
    happens, be it descriptors or threads, whatever it has while much does. 0 when it is not.
    """
    if not points:
        return 0
    start_s, length_s = points[0][0], (points[-1][0] - points[0][0]) or 1
    quarters = [
        [value for at_s, value in points if int(4 * (at_s - start_s) / length_s) == number] for number in (1, 3)
    ]
    return max(min(quarters[1]) - min(quarters[0]), 0) if all(quarters) else 0


def _middle(points: Sequence[Point]) -> Point:
    times_s, values = zip(*points, strict=True)
    return statistics.median(times_s), statistics.median(values)
