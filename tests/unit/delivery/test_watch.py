"""Figures of a probation, added up over the processes of a release."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from edged.delivery import watch
from edged.delivery.record import Baseline, Watched
from edged.delivery.watch import Watch
from edged.serving.generation import Generation
from edged.serving.release import Tally


def live(**counts: int) -> Generation:
    tally = Tally()
    for name, value in counts.items():
        setattr(tally, name, value)
    tally.cpu_s.extend([0.001] * counts.get("runs", 0))
    return cast("Generation", SimpleNamespace(tally=tally))


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_time_counts_only_while_the_model_is_live() -> None:
    clock = Clock()
    seen = Watch(Watched(elapsed_s=5.0), clock)
    one = live(runs=3)
    clock.now_s += 2
    assert seen.look(one)[0].elapsed_s == 7.0
    clock.now_s += 10
    assert seen.look(None)[0].elapsed_s == 7.0
    clock.now_s += 1
    assert seen.look(one)[0].elapsed_s == 8.0


def test_a_second_tally_adds_to_the_first() -> None:
    seen = Watch(Watched(runs=10, faults=1), Clock())
    first = live(runs=5, faults=2, nonfinite=3, crashes=1)
    assert seen.look(first)[0] == Watched(runs=15, faults=3, nonfinite=3, crashes=1)
    first.tally.runs += 1
    assert seen.look(first)[0].runs == 16
    assert seen.look(None)[0].runs == 16
    found, cpu_s = seen.look(live(runs=4))
    assert (found.runs, found.faults, len(cpu_s)) == (20, 3, 4)


def test_the_baseline_is_how_the_live_model_behaved() -> None:
    assert watch.baseline(None, 0.5) == Baseline()
    assert watch.baseline(live(runs=100, faults=1, nonfinite=2, crashes=3), 0.5) == Baseline(100, 6, 0.001)
    assert watch.baseline(live(runs=4), 0.5) == Baseline(4, 0, 0.5)  # too few to have a median
