"""The goals: each beside its figure, when that was measured."""

from __future__ import annotations

import pytest

from benchmarks.beside import Beside
from benchmarks.figures import Row
from benchmarks.footprint import Process
from benchmarks.goals import Goal, Results, goals
from benchmarks.report import held
from benchmarks.swap import Swap, Trial


def row(subject: str, model: str, in_flight: int, cpu_us: float = 1, *, p99_ms: float = 1, ratio: float = 1) -> Row:
    return Row(subject, model, in_flight, cpu_us, None, 1, 1, p99_ms, faults=0, times_bare=ratio)


def one(results: Results) -> Goal:
    (found,) = goals(results)
    return found


def test_nothing_measured_nothing_held() -> None:
    assert list(goals(Results())) == []


@pytest.mark.parametrize(("cpu_us", "met"), [(40, True), (40.1, False)])
def test_a_goal_is_met_up_to_its_limit(cpu_us: float, met: bool) -> None:
    goal = one(Results(rows=[row("edged HTTP unix", "tiny", 16, cpu_us), row("fastapi HTTP tcp", "tiny", 16)]))
    assert (goal.limit, goal.met) == (40, met)


def test_a_latency_is_held_at_qos_1_alone() -> None:
    rows = [row("edged MQTT q1", "tiny", 16, p99_ms=8), row("edged MQTT q1", "tiny", 64, p99_ms=80)]
    found = [goal for goal in goals(Results(rows=rows)) if goal.unit == "ms"]
    assert [(goal.value, goal.limit, goal.met) for goal in found] == [(8, 7, False)]


def test_the_fast_lane_has_goals_for_small_inputs_and_for_its_ring() -> None:
    rows = [row("edged fast unix", "tiny", 16, 15), row("python unix", "tiny", 16), row("edged fast unix", "image", 1)]
    rows += [row("edged fast ring", "image", count, ratio=ratio) for count, ratio in [(1, 1.05), (16, 1.2)]]
    small, ring = goals(Results(rows=rows))
    assert (small.value, small.limit, small.met) == (15, 14, False)
    assert (ring.value, ring.limit, ring.met) == (1.2, 1.1, False)


def test_of_the_large_inputs_the_worst_counts() -> None:
    rows = [row("edged HTTP tcp", "image", count, ratio=ratio) for count, ratio in [(1, 1.1), (4, 1.2), (16, 1.05)]]
    assert one(Results(rows=rows)).value == 1.2


@pytest.mark.parametrize(
    ("path", "model", "limits"),
    [
        ("edged HTTP tcp", "conv", {16: 70}),
        ("edged fast direct", "tiny", {1: 20, 16: 14, 64: 8}),
        ("edged gRPC tcp", "tiny", {1: 220, 16: 110, 64: 100}),
        ("edged MQTT q0", "tiny", {1: 90, 16: 40, 64: 36}),
        ("edged MQTT q1", "tiny", {1: 130, 16: 70, 64: 65}),
    ],
)
def test_each_path_has_a_goal_for_each_number_in_flight(path: str, model: str, limits: dict[int, float]) -> None:
    found = list(goals(Results(rows=[row(path, model, count) for count in (1, 4, 16, 64)])))
    assert [goal.limit for goal in found if goal.unit == "us"] == [*limits.values()]


def test_a_tiny_model_beside_a_saturated_one_has_a_goal_and_the_plain_script_has_none() -> None:
    found = [Beside(name, "tiny", "image", 0.1, 0.3, 0.2, 1.5, 80, 0) for name in ("edged fast unix", "python unix")]
    goal = one(Results(beside=found))
    assert (goal.value, goal.limit, goal.met) == (1.5, 1, False)


@pytest.mark.parametrize(("before_ms", "limit_ms"), [(0.5, 5), (4, 8)])
def test_a_swap_may_double_the_latency_or_take_five_milliseconds(before_ms: float, limit_ms: float) -> None:
    swap = Swap("HTTP unix", "tiny", 0, 4.5, 5.5, 5.4, 1.2, 1, -2.5, 101, before_ms, 6, before_ms)
    during, switch, gap, new, old, lost = goals(Results(swaps=[swap]))
    assert (during.limit, lost.limit, lost.met) == (limit_ms, 0, True)
    assert (switch.value, switch.limit, switch.met) == (4.5, 5, True)
    assert (gap.value, gap.limit, gap.met) == (5.5, 5, False)
    assert (new.value, new.limit, new.met) == (-2.5, 100, True)
    assert (old.value, old.limit, old.met) == (101, 100, False)


@pytest.mark.parametrize(("before_ms", "limit_ms"), [(0.5, 5), (4, 8)])
def test_a_trial_may_double_the_latency_or_take_five_milliseconds(before_ms: float, limit_ms: float) -> None:
    during, lost = goals(Results(trials=[Trial("HTTP unix", "tiny", 1, 1, before_ms, 40, 6)]))
    assert (during.value, during.limit, during.met) == (6, limit_ms, limit_ms > 6)
    assert not lost.met


def test_what_it_takes() -> None:
    results = Results(
        starts_s=[0.4, 9.0, 0.5],
        processes=[Process("daemon", 50_000_000), Process("worker", 31_000_000)],
        idle_percent=0.2,
    )
    found = {goal.unit: (goal.value, goal.met) for goal in goals(results)}
    assert found == {"s": (0.5, True), "MB": (81, False), "%": (0.2, True)}


def test_the_table_says_yes_or_no() -> None:
    lines = held(Results(starts_s=[0.4], idle_percent=0.7)).splitlines()
    assert [line.split()[0] for line in lines] == ["met", "yes", "NO"]
