"""A swap in figures."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.swap import Course, Sample, Swap, Trial, median, median_trial, summary, trial


def course(*, until_s: float = 20.0) -> Course:
    """An answer each 10 ms from 100 s on: 1 ms, from the push at 102 until 103.5 5 ms, then 2 ms; took over at 103.

    The new model's first answer is 25 ms late, one long before is 200 ms late. Without a swap one is 100 ms late.
    """
    samples = [Sample(97 + index / 100, 1, "old") for index in range(100)]
    steady = tuple(sample for sample in samples if not 97.5 < sample.at_s < 97.595)
    samples = []
    for index in range(int(until_s * 100)):
        at_s = 100 + index / 100
        samples.append(Sample(at_s, 1 if at_s < 102 else 5 if at_s < 103.5 else 2, "old" if at_s < 103 else "new"))
    kept = [sample for sample in samples if not 101 < sample.at_s < 101.195 and not 103 <= sample.at_s < 103.015]
    return Course("HTTP unix", "tiny", tuple(kept), 102, 102.2, 103.1, lost=1, steady=steady)


def test_the_parts_are_told_apart() -> None:
    found = summary(course())
    assert (found.p99_before_ms, found.p99_during_ms, found.p99_after_ms) == (1, 5, 2)
    assert found.lost == 1
    assert found.switch_s == pytest.approx(1.1)


def test_the_gap_at_the_switch_is_told_apart_from_the_machine_s() -> None:
    found = summary(course())
    gaps_ms = (found.switch_gap_ms, found.gap_ms, found.steady_gap_ms, found.usual_gap_ms)
    assert gaps_ms == pytest.approx((30, 200, 100, 10), abs=1e-6)


def test_the_first_new_and_the_last_old_answer_are_counted_from_the_daemon_s_word() -> None:
    early = summary(course())  # the word came 100 ms after the old one's last place
    assert (early.new_ms, early.old_ms) == pytest.approx((-80, -110), abs=1e-6)
    late = dataclasses.replace(course(), switched_s=102.9)
    samples = [*late.samples, Sample(103.021, 2, "old"), Sample(120.1, 2, "new")]  # on another connection
    samples.sort(key=lambda sample: sample.at_s)
    found = summary(dataclasses.replace(late, samples=tuple(samples)))
    assert (found.new_ms, found.old_ms) == pytest.approx((120, 121), abs=1e-6)


def test_a_load_that_the_new_model_never_answered_is_told() -> None:
    same = [dataclasses.replace(sample, mark="old") for sample in course().samples]
    with pytest.raises(ValueError, match="new model's"):
        summary(dataclasses.replace(course(), samples=tuple(same)))


def test_a_load_that_ended_too_early_is_told() -> None:
    with pytest.raises(ValueError, match="too short"):
        summary(course(until_s=3))


def test_over_several_swaps_all_losses_and_the_longest_gap_count() -> None:
    swaps = [
        Swap(
            "HTTP unix",
            "tiny",
            n,
            2 * n,
            10 * n,
            3 * n,
            n,
            switch_s=n,
            new_ms=n - 2,
            old_ms=n - 3,
            p99_before_ms=n,
            p99_during_ms=n,
            p99_after_ms=n,
        )
        for n in (0, 5, 1)
    ]
    assert median(swaps) == Swap("HTTP unix", "tiny", 6, 10, 50, 15, 1, 1, 3, 2, 1, 1, 1)


def test_a_trial_ends_where_the_candidate_takes_over() -> None:
    found = trial(course())
    assert (found.p99_before_ms, found.p99_transfer_ms, found.p99_trial_ms) == (1, 5, 5)
    assert found.trial_s == pytest.approx(0.9)
    slower = [Trial("MQTT q1", "tiny", n, n, n, n, 2 * n) for n in (1, 4, 2)]
    assert median_trial(slower) == Trial("MQTT q1", "tiny", 7, 2, 2, 2, 4)
