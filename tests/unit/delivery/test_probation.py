"""Verdicts on probation, on tables of figures (RULES 25, 26)."""

from __future__ import annotations

import pytest

from edged.config.schema import Probation
from edged.config.units import Duration, Factor, Percent
from edged.delivery import probation
from edged.delivery.record import Baseline, Watched

SETTINGS = Probation(Duration(60), 100, Percent(0.01), Factor(3))
NOTHING = Baseline()


@pytest.mark.parametrize(
    ("watched", "baseline", "code"),
    [
        (Watched(runs=100), NOTHING, None),
        (Watched(runs=100, faults=4), NOTHING, None),  # fewer than five
        (Watched(runs=500, faults=5), NOTHING, None),  # exactly one percent
        (Watched(runs=499, faults=5), NOTHING, "probation_errors"),
        (Watched(runs=5, faults=5), NOTHING, "probation_errors"),
        (Watched(runs=100, nonfinite=5), NOTHING, "nonfinite"),
        (Watched(runs=100, crashes=5), NOTHING, "probation_crash"),
        (Watched(runs=0, crashes=5), NOTHING, "probation_crash"),
        (Watched(runs=100, faults=2, nonfinite=2, crashes=1), NOTHING, "probation_errors"),
        (Watched(runs=100, nonfinite=50), Baseline(runs=1000, bad=500), None),  # the sensor's NaN
        (Watched(runs=100, nonfinite=51), Baseline(runs=1000, bad=500), None),
        (Watched(runs=100, nonfinite=52), Baseline(runs=1000, bad=500), "nonfinite"),
        (Watched(runs=100, faults=100), Baseline(runs=10, bad=20), None),
    ],
)
def test_faults_count_above_the_usual_rate(watched: Watched, baseline: Baseline, code: str | None) -> None:
    found = probation.faulty(SETTINGS, watched, baseline, ())
    assert (found.code if found else None) == code


@pytest.mark.parametrize(
    ("cpu_s", "usual_s", "slow"),
    [
        ([0.030] * 9, 0.010, False),
        ([0.031] * 9, 0.010, True),
        ([0.0009] * 9, 0.0001, False),
        ([0.031] * 4, 0.010, False),  # too few to say
        ([0.010] * 5 + [9.0] * 4, 0.010, False),
        ([9.0] * 9, 0.0, False),
    ],
)
def test_latency_is_a_median(cpu_s: list[float], usual_s: float, *, slow: bool) -> None:
    found = probation.faulty(SETTINGS, Watched(runs=100), Baseline(cpu_s=usual_s), cpu_s)
    assert (found is not None) == slow
    if found:
        assert found.code == "probation_latency"


@pytest.mark.parametrize(
    ("elapsed_s", "runs", "done", "flags"),
    [
        (59.9, 100, False, ()),
        (60.0, 99, False, ()),
        (60.0, 100, True, ()),
        (599.9, 99, False, ()),
        (600.0, 0, True, ("untested_live",)),
        (600.0, 100, True, ()),
    ],
)
def test_it_ends_with_time_and_runs_or_with_much_time(
    elapsed_s: float, runs: int, flags: tuple[str, ...], *, done: bool
) -> None:
    assert probation.complete(SETTINGS, Watched(elapsed_s=elapsed_s, runs=runs)) == (done, flags)


def test_the_time_left_never_goes_below_zero() -> None:
    assert probation.left_s(SETTINGS, Watched(elapsed_s=20)) == 40
    assert probation.left_s(SETTINGS, Watched(elapsed_s=200)) == 0
    assert probation.most_s(SETTINGS, Watched(elapsed_s=200)) == 400
    assert probation.most_s(SETTINGS, Watched(elapsed_s=700)) == 0
