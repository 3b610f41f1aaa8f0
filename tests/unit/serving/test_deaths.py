"""When a model is at fault for the deaths of its processes (RULES 13)."""

from __future__ import annotations

from edged.serving.deaths import Deaths


def test_three_deaths_in_a_minute_are_the_models_fault() -> None:
    deaths = Deaths()
    assert [deaths.died(now_s, answered=0) for now_s in (0.0, 30.0, 60.0)] == [
        False,
        False,
        True,
    ]


def test_deaths_that_are_far_apart_are_not() -> None:
    deaths = Deaths()
    assert not any(deaths.died(now_s, answered=99) for now_s in range(0, 1000, 31))


def test_a_hundred_answers_between_two_deaths_start_the_count_anew() -> None:
    deaths = Deaths()
    assert not any(deaths.died(float(now_s), answered=100) for now_s in range(50))


def test_a_poison_input_takes_the_blame() -> None:
    deaths = Deaths()
    deaths.died(0.0, answered=0)
    deaths.died(1.0, answered=0)
    deaths.forgive()
    assert not deaths.died(2.0, answered=0)


def test_the_pause_doubles_up_to_five_minutes() -> None:
    deaths = Deaths()
    assert [deaths.pause_s() for _ in range(11)] == [
        1,
        2,
        4,
        8,
        16,
        32,
        64,
        128,
        256,
        300,
        300,
    ]
    deaths.forgive()
    assert deaths.pause_s() == 1
