"""What a table of measurements comes to."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from edged.serving.generation import Died, Generation
from edged.serving.tuning import Row, _Load, choose, threads_for


def row(threads: int, batch: int, rate: float, cpu_us: float) -> Row:
    return Row(threads, batch, rate, batch_ms=1.0, cpu_us=cpu_us)


@pytest.mark.parametrize(
    ("cores", "tried"), [(0, (1,)), (1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (4, (1, 2, 4)), (12, (1, 2, 4, 8, 12))]
)
def test_threads_double_up_to_the_cores(cores: int, tried: tuple[int, ...]) -> None:
    assert threads_for(cores) == tried


def test_no_more_threads_than_the_configuration_takes() -> None:
    assert threads_for(256) == (1, 2, 4, 8, 16, 32, 64)


def test_what_brings_much_is_taken() -> None:
    rows = [row(1, 1, 100, 80), row(1, 8, 500, 20), row(2, 1, 180, 90), row(2, 8, 900, 22)]
    assert choose(rows) == rows[3]


def test_a_thread_that_brings_little_is_not_worth_a_core() -> None:
    rows = [row(1, 1, 100, 80), row(1, 64, 920, 20), row(2, 1, 1000, 60), row(2, 64, 1000, 20)]
    assert choose(rows) == rows[1]


def test_a_larger_batch_that_saves_little_cpu_is_not_worth_a_wait_however_much_it_answers() -> None:
    rows = [row(1, 1, 100, 80), row(1, 8, 500, 21.9), row(1, 16, 700, 21), row(1, 32, 950, 20), row(2, 1, 90, 10)]
    assert choose(rows) == rows[1]


def test_the_cpu_of_other_threads_is_no_measure() -> None:
    rows = [row(1, 1, 100, 10), row(1, 4, 110, 9), row(2, 1, 190, 30), row(2, 4, 200, 12)]
    assert choose(rows) == rows[3]


def test_a_process_that_ends_under_two_batches_is_one_end() -> None:
    class Ended:
        async def run(self, heads: object, payloads: object) -> None:
            await asyncio.sleep(0)  # the other one is sent before this one knows
            raise Died("1")

    with pytest.raises(Died):
        asyncio.run(_Load(cast("Generation", Ended()), [(b"", 0)]).keep(60))
