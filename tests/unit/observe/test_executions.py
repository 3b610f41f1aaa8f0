"""What versions have executed: batches added up as Triton adds them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edged.observe.executions import Executed, Ran, Spent, Statistics, Tally
from edged.observe.metrics import Metrics


def test_a_batch_counts_for_each_request_and_once_for_its_run() -> None:
    metrics = Metrics(["digits"])
    for seconds in (0.25, 0.5):
        metrics.answered("digits", "2", "ok", seconds)
    metrics.answered("digits", "2", "bad_input", 0.125)
    metrics.ran("digits", "2", Ran(2, 0.5, (10, 200, 30), (6,)))
    found = metrics.statistics("digits", "2")
    assert (found.inferences, found.executions) == (6, 1)
    assert (found.success, found.fail) == (Spent(2, 750_000_000), Spent(1, 125_000_000))
    assert found.queue == Spent(2, 500_000_000)
    assert (found.input, found.infer, found.output) == (Spent(2, 20), Spent(2, 400), Spent(2, 60))
    assert found.batches == (Executed(6, 1, 10, 200, 30),)
    assert found.last_ms > 1_700_000_000_000


def test_a_batch_that_took_several_runs() -> None:
    tally = Tally()
    tally.add(Ran(4, 0.0, (40, 80, 120), (3, 1, 1, 1)), 5)
    found = tally.statistics(Spent(), Spent())
    assert (found.inferences, found.executions, found.last_ms) == (6, 4, 5)
    assert found.batches == (Executed(1, 3, 30, 60, 90), Executed(3, 1, 10, 20, 30))


def test_versions_and_models_are_counted_apart() -> None:
    metrics = Metrics(["digits", "cam"])
    metrics.answered("digits", "1", "ok", 1.0)
    metrics.ran("digits", "1", Ran(1, 0.0, (1, 1, 1), (1,)))
    assert metrics.statistics("digits", "2") == metrics.statistics("cam", "1") == Statistics()


def test_versions_do_not_add_up_for_ever() -> None:
    metrics = Metrics(["digits"])
    for version in range(100):
        metrics.answered("digits", str(version), "ok", 1.0)
        metrics.ran("digits", str(version), Ran(1, 0.0, (1, 1, 1), (1,)))
        metrics.roll()
    kept = [version for version in range(100) if metrics.statistics("digits", str(version)).executions]
    assert kept == list(range(84, 100))
    assert b"edged_inference_duration_seconds_sum" in metrics.render()
    assert b'edged_inference_duration_seconds_sum{model="digits"} 100.0' in metrics.render()


@given(st.lists(st.integers(1, 2**31), min_size=1, max_size=500))
def test_no_sender_makes_more_than_a_hundred_figures(sizes: list[int]) -> None:
    tally = Tally()
    for size in sizes:
        tally.add(Ran(1, 0.0, (1, 1, 1), (size,)), 0)
    found = tally.statistics(Spent(), Spent())
    assert (found.inferences, found.executions) == (sum(sizes), len(sizes))
    assert len(found.batches) <= 100
    assert all(one.size in sizes for one in found.batches if one.size <= 64)
