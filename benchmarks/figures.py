"""The figures: rows of one run, medians over runs, and the goals they are held against. No I/O."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Row:
    """One model behind one subject at one number of requests in flight. CPU time is of the subject's whole tree."""

    subject: str
    model: str
    in_flight: int
    cpu_us: float
    broker_us: float | None
    rate: float
    p50_ms: float
    p99_ms: float
    faults: int
    times_bare: float | None = None  # cpu_us / that of onnxruntime alone in the same run


def with_ratios(rows: Iterable[Row], bare_us: dict[str, float]) -> list[Row]:
    """The rows of one run, each compared with onnxruntime alone in that run."""
    return [replace(row, times_bare=row.cpu_us / bare_us[row.model]) for row in rows]


def medians(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """One row for each (subject, model, in flight), its figures medians over the runs, its faults their sum.

    A median of each figure by itself: the ratio of a run stays a ratio of one run. In the order of first appearance.
    """
    found: dict[tuple[str, str, int], list[Row]] = {}
    for run in runs:
        for row in run:
            found.setdefault((row.subject, row.model, row.in_flight), []).append(row)
    return [
        replace(
            same[0],
            cpu_us=statistics.median(row.cpu_us for row in same),
            broker_us=median_of(row.broker_us for row in same),
            rate=statistics.median(row.rate for row in same),
            p50_ms=statistics.median(row.p50_ms for row in same),
            p99_ms=statistics.median(row.p99_ms for row in same),
            faults=sum(row.faults for row in same),
            times_bare=median_of(row.times_bare for row in same),
        )
        for same in found.values()
    ]


def median_of(values: Iterable[float | None]) -> float | None:
    """The median of those that are there; None when none is."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values are not above, as the load clients count it. Needs one value."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
