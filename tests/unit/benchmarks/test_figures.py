"""Medians over runs, ratios within one."""

from __future__ import annotations

import pytest

from benchmarks import beside
from benchmarks.beside import Beside
from benchmarks.figures import Row, median_of, medians, percentile, with_ratios


def row(cpu_us: float, *, subject: str = "edged", broker_us: float | None = None, faults: int = 0) -> Row:
    return Row(subject, "tiny", 4, cpu_us, broker_us, rate=cpu_us * 2, p50_ms=1, p99_ms=cpu_us, faults=faults)


def test_a_ratio_is_of_one_run() -> None:
    """A slow run of both is no worse ratio than a fast run of both."""
    runs = [
        with_ratios([row(10)], {"tiny": 1}),
        with_ratios([row(90)], {"tiny": 10}),
        with_ratios([row(40)], {"tiny": 2}),
    ]
    (found,) = medians(runs)
    assert (found.cpu_us, found.times_bare) == (40, 10)


def test_medians_are_for_each_figure_and_faults_add_up() -> None:
    (found,) = medians([[row(3, faults=1)], [row(1)], [row(2, faults=4)]])
    assert (found.cpu_us, found.rate, found.p99_ms, found.faults) == (2, 4, 2, 5)
    assert found.broker_us is None


def test_beside_a_busy_model_each_subject_is_a_median_of_its_own() -> None:
    runs = [
        [Beside(name, "tiny", "image", n, n, n, k * n, n, n) for k, name in ((1, "a"), (2, "b"))] for n in (1, 9, 2)
    ]
    first, second = beside.medians(runs)
    assert (first.subject, first.p99_ms, first.faults) == ("a", 2, 12)
    assert (second.subject, second.p99_ms, second.p50_ms) == ("b", 4, 2)


def test_rows_are_told_apart_and_keep_their_order() -> None:
    found = medians([[row(1, subject="b"), row(2, subject="a")], [row(3, subject="b"), row(4, subject="a")]])
    assert [(one.subject, one.cpu_us) for one in found] == [("b", 2), ("a", 3)]


def test_the_median_of_nothing_is_none() -> None:
    assert median_of([]) is None
    assert median_of([None, 3, None, 1]) == 2


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.5, 51), (0.99, 100), (1, 100)])
def test_a_percentile_counts_as_the_clients_do(share: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected
