"""scale, normalize, cast and reshape against plain numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.steps import Cast, Normalize, Preprocess, Reshape, Scale
from edged.errors import EdgedError
from edged.worker.formats.decoded import Array
from edged.worker.steps.table import preprocess

RNG = np.random.default_rng(3)
PICTURE = RNG.integers(0, 256, (3, 4, 5)).astype(np.uint8)


def after(steps: Sequence[Preprocess], array: Array, *, batched: bool = False) -> Array:
    return preprocess(steps, array, batched=batched)[0]


def refused(array: Array, *steps: Preprocess, batched: bool = False) -> str:
    with pytest.raises(EdgedError) as caught:
        after(steps, array, batched=batched)
    assert caught.value.fault.code == "bad_input"
    return caught.value.fault.message


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        ("uint8", "float32"),
        ("int16", "float32"),
        ("bool", "float32"),
        ("float16", "float32"),
        ("float32", "float32"),
        ("int32", "float64"),
        ("int64", "float64"),
        ("uint64", "float64"),
        ("float64", "float64"),
    ],
)
def test_scale_multiplies_in_a_precision_that_holds_the_input(dtype: str, result: str) -> None:
    array = np.array([0, 1, 1], dtype=dtype)
    for steps in ([Scale(0.1)], [Normalize((0.0,), (10.0,))]):
        scaled = after(steps, array)
        assert scaled.dtype == result
        assert np.allclose(scaled, array.astype(result) * 0.1, rtol=1e-6)
    exact = after([Scale(0.0625)], np.arange(17, dtype=np.float32))
    assert np.array_equal(exact, np.arange(17, dtype=np.float32) * np.float32(0.0625))


def test_scale_of_one_number_is_an_array() -> None:
    for steps in ([Scale(2)], [Normalize((1.0,))]):
        assert isinstance(after(steps, np.array(3.0)), np.ndarray)


def test_infinity_and_nan_go_through_without_a_word() -> None:
    scaled = after([Scale(2)], np.array([3e38, -3e38, np.nan, np.inf], dtype=np.float32))
    assert np.array_equal(scaled, [np.inf, -np.inf, np.nan, np.inf], equal_nan=True)


def test_normalize_by_one_number() -> None:
    assert after([Normalize((127.0,), (128.0,))], np.array([255.0, -1.0])).tolist() == [1.0, -1.0]
    assert after([Normalize((5.0,))], np.array([7.5])).tolist() == [2.5]


def test_normalize_by_channel_on_the_first_axis_of_a_row() -> None:
    mean, std = (10.0, 20.0, 30.0), (1.0, 2.0, 4.0)
    expected = (PICTURE.astype(np.float32) - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    row = after([Normalize(mean, std)], PICTURE)
    assert np.array_equal(row, expected.astype(np.float32))
    batch = after([Normalize(mean, std)], PICTURE[np.newaxis], batched=True)
    assert np.array_equal(batch[0], row)
    three = np.stack([PICTURE, PICTURE + 1, PICTURE + 2])  # as many rows as channels: the batch axis is not taken
    assert np.array_equal(after([Normalize(mean, std)], three, batched=True)[0], row)


def test_normalize_one_mean_and_several_std() -> None:
    array = np.array([3.0, 5.0])
    assert after([Normalize((1.0,), (2.0, 4.0))], array).tolist() == [1.0, 1.0]


def test_normalize_by_channel_on_the_last_axis_of_columns() -> None:
    columns = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    assert after([Normalize((1.0, 10.0))], columns).tolist() == [[0, 0], [1, 10], [2, 20]]


def test_normalize_with_another_number_of_channels_is_refused() -> None:
    assert "2 channels, the tensor's shape is [3, 4, 5]" in refused(PICTURE, Normalize((1.0, 2.0)))
    assert "shape is [4, 5]" in refused(PICTURE, Normalize((1.0, 2.0, 3.0)), batched=True)
    assert "shape is []" in refused(np.array(1.0), Normalize((1.0, 2.0)))


def test_cast_is_numpys() -> None:
    assert after([Cast("float32")], np.array([0.1])).dtype == np.float32
    assert after([Cast("uint8")], np.array([2.9, 255.9])).tolist() == [2, 255]
    assert after([Cast("int8")], np.array([-1.9])).tolist() == [-1]
    assert after([Cast("bool")], np.array([0, 3])).tolist() == [False, True]


@pytest.mark.parametrize("value", [256.0, -1.0, np.nan, np.inf])
def test_cast_refuses_what_an_integer_cannot_hold(value: float) -> None:
    assert "cast: uint8 cannot hold" in refused(np.array([1.0, value]), Cast("uint8"))
    refused(np.array([2.0**63]), Cast("int64"))
    refused(np.array([2**63], dtype=np.uint64), Cast("int64"))


def test_reshape_of_one_row() -> None:
    flat = np.arange(64)
    assert after([Reshape((1, 8, 8))], flat).shape == (1, 8, 8)
    assert after([Reshape((1, 8, 8))], flat.reshape(8, 8)).shape == (1, 8, 8)
    assert after([Reshape((1, 8, 8))], flat.reshape(1, 64)).shape == (1, 8, 8)
    assert after([Reshape((-1, 16))], flat).shape == (4, 16)
    assert after([Reshape((-1, 3))], np.zeros((5, 6))).shape == (10, 3)


def test_reshape_of_several_rows_gets_a_batch_axis() -> None:
    flat = np.arange(128)
    assert after([Reshape((1, 8, 8))], flat).shape == (2, 1, 8, 8)
    stacked = after([Reshape((1, 8, 8))], flat.reshape(2, 8, 8))
    assert stacked.shape == (2, 1, 8, 8)
    assert stacked[1, 0, 0].tolist() == list(range(64, 72))


def test_channels_are_found_behind_a_reshape() -> None:
    steps: list[Preprocess] = [Reshape((2, 3)), Normalize((0.0, 100.0))]
    one = np.arange(6)
    expected = [[0, 1, 2], [-97, -96, -95]]
    assert after(steps, one).tolist() == expected
    assert after(steps, np.concatenate([one, one])).tolist() == [expected, expected]


def test_reshape_that_does_not_fit_is_refused() -> None:
    assert refused(np.zeros(63), Reshape((1, 8, 8))) == "reshape to [1, 8, 8]: the input has 63 numbers, shape [63]"
    refused(np.zeros((8, 16)), Reshape((1, 8, 8)))
    refused(np.zeros(5), Reshape((-1, 2)))
    refused(np.zeros(0), Reshape((2,)))
    refused(np.zeros(5), Reshape((-1, 0)))


@given(st.integers(1, 4), st.lists(st.integers(1, 4), max_size=3))
def test_reshape_keeps_every_number_in_its_place(rows: int, shape: list[int]) -> None:
    size = int(np.prod(shape, dtype=int))
    array = np.arange(rows * size)
    found = after([Reshape(tuple(shape))], array)
    assert found.shape == (tuple(shape) if rows == 1 else (rows, *shape))
    assert found.ravel().tolist() == array.tolist()


def test_steps_run_in_their_order() -> None:
    array = np.array([10, 20], dtype=np.uint8)
    assert after([Scale(0.5), Normalize((1.0,))], array).tolist() == [4.0, 9.0]
    assert after([Normalize((1.0,)), Scale(0.5)], array).tolist() == [4.5, 9.5]
    assert after([], array) is array
