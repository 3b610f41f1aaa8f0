"""Made-up numbers: reproducible, spread, and without numpy.random."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edged.worker.noise import Noise


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 2**31])
def test_uniform_numbers_are_spread(seed: int) -> None:
    values = Noise(seed).uniform([100, 100])
    assert (values.dtype, values.shape) == (np.float32, (100, 100))
    assert values.min() >= 0
    assert values.max() < 1
    counts, _ = np.histogram(values, bins=10, range=(0, 1))
    assert counts.min() > 850
    neighbours = np.corrcoef(values.ravel()[:-1], values.ravel()[1:])[0, 1]
    assert abs(neighbours) < 0.05


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others() -> None:
    first, again, other = (Noise(seed).uniform([1000]) for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.1


def test_a_stream_goes_on() -> None:
    noise = Noise(1)
    assert np.array_equal(np.concatenate([noise.uniform([3]), noise.uniform([4])]), Noise(1).uniform([7]))


def test_coins_fall_on_both_sides() -> None:
    values = Noise(2).coins([10_000])
    assert set(np.unique(values)) == {0, 1}
    assert 4700 < values.sum() < 5300


@pytest.mark.parametrize("shape", [[], [0], [3, 0, 2]])
def test_scalars_and_empty_shapes(shape: list[int]) -> None:
    assert Noise(0).uniform(shape).shape == tuple(shape)
    assert Noise(0).coins(shape).shape == tuple(shape)


def test_the_counter_wraps_around() -> None:
    noise = Noise(0)
    noise._next = 2**32 - 2
    assert np.unique(noise.uniform([4])).size == 4


def test_a_worker_does_without_numpy_random() -> None:
    """3 MB in every worker; whoever imports it by name somewhere brings it back."""
    program = "import sys, edged.worker.main; sys.exit('numpy.random' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
