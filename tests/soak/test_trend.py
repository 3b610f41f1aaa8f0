"""What the soak test calls growth, on made-up series: of bytes, one a second, over half an hour."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.soak.trend import rises, trend

KIB = 1024
ROOM = 1024 * KIB
SECONDS = 1800


def series(value: Callable[[int], float], *, seed: int = 1) -> list[tuple[float, float]]:
    """What a process with 40 MiB looks like: pages taken and given back, for seconds and for minutes."""
    noise = random.Random(seed)  # noqa: S311 - the same each time
    wander, points = 0.0, []
    for second in range(SECONDS):
        wander = 0.98 * wander + noise.choice((-16, 0, 0, 16)) * KIB
        points.append((float(second), 40_960 * KIB + wander + noise.choice((0, 4, 64)) * KIB + value(second)))
    return points


@pytest.mark.parametrize("seed", range(20))
def test_noise_and_the_growth_of_the_beginning_are_no_leak(seed: int) -> None:
    filling = series(lambda second: 8_000 * KIB * min(second / 600, 1), seed=seed)
    found = trend(filling)
    assert found is not None
    assert not found.grows(ROOM)


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_of_sixteen_bytes_a_request_is_noticed(seed: int) -> None:
    """With 200 requests a second, as little as an entry of a list that nobody empties."""
    leaking = trend(series(lambda second: 16 * 200 * second, seed=seed))
    assert leaking is not None
    assert leaking.grows(ROOM)


def test_what_it_says_it_would_notice_it_notices() -> None:
    found = trend(series(lambda _second: 0))
    assert found is not None
    rate = found.noticed(ROOM) / (SECONDS / 2)
    more, less = (trend(series(lambda second, by=by: by * rate * second)) for by in (1.01, 0.98))  # type: ignore[misc]
    assert more is not None
    assert less is not None
    assert (more.grows(ROOM), less.grows(ROOM)) == (True, False)
    assert rate / 200 < 8, "bytes a request"


def test_one_step_is_no_slope() -> None:
    found = trend(series(lambda second: 20_000 * KIB * (second > 1300)))
    assert found is not None
    assert not found.grows(ROOM)


def test_steps_that_go_on_are() -> None:
    found = trend(series(lambda second: 300 * KIB * (second // 120)))
    assert found is not None
    assert found.grows(ROOM)


def test_too_few_points_tell_nothing() -> None:
    assert trend([]) is None
    assert trend([(float(at), 0.0) for at in range(10)]) is None


def test_a_descriptor_more_after_each_swap_is_noticed_among_those_that_come_and_go() -> None:
    noise = random.Random(2)  # noqa: S311 - the same each time
    busy = [(float(second), 40.0 + noise.randrange(12)) for second in range(SECONDS)]
    assert rises(busy) == 0
    assert rises([(at, value + at // 60) for at, value in busy]) > 10
    assert rises([]) == 0
