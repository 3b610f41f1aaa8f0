"""What a table of measurements comes to."""

from __future__ import annotations

import pytest

from edged.serving.tuning import Row, choose, threads_for


def row(threads: int, batch: int, rate: float) -> Row:
    return Row(threads, batch, rate, batch_ms=1.0, cpu_us=10.0)


@pytest.mark.parametrize(
    ("cores", "tried"), [(0, (1,)), (1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (4, (1, 2, 4)), (12, (1, 2, 4, 8, 12))]
)
def test_threads_double_up_to_the_cores(cores: int, tried: tuple[int, ...]) -> None:
    assert threads_for(cores) == tried


def test_no_more_threads_than_the_configuration_takes() -> None:
    assert threads_for(256) == (1, 2, 4, 8, 16, 32, 64)


def test_what_brings_much_is_taken() -> None:
    assert choose([row(1, 1, 100), row(1, 8, 500), row(2, 1, 180), row(2, 8, 900)]) == row(2, 8, 900)


def test_what_brings_little_is_not_worth_a_core_or_a_wait() -> None:
    assert choose([row(1, 1, 100), row(1, 8, 920), row(1, 16, 950), row(2, 8, 990), row(2, 16, 1000)]) == row(1, 8, 920)


def test_a_thread_is_dearer_than_a_larger_batch() -> None:
    assert choose([row(1, 1, 100), row(1, 64, 920), row(2, 1, 1000)]) == row(1, 64, 920)
