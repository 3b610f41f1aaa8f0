"""How far an output is from its golden one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edged.channel import Compare
from edged.worker.deviation import deviation

NAN, INF = math.nan, math.inf


def asked(atol: float = 0.01, rtol: float = 0.1) -> Compare:
    return Compare(1, "golden.npz", 0, atol, rtol)


def beyond(given: list[Any], golden: list[Any], dtype: str, *, atol: float = 0.01, rtol: float = 0.1) -> int:
    return deviation("y", np.array(given, dtype), np.array(golden, dtype), asked(atol, rtol)).beyond


@pytest.mark.parametrize(
    ("mine", "golden", "count"),
    [
        ([1.0], [1.0], 0),
        ([1.10], [1.0], 0),  # 0.01 + 0.1
        ([1.12], [1.0], 1),
        ([0.009], [0.0], 0),
        ([0.011], [0.0], 1),
        ([NAN], [NAN], 0),
        ([NAN], [1.0], 1),
        ([1.0], [NAN], 1),
        ([INF, -INF], [INF, -INF], 0),
        ([INF], [-INF], 1),
        ([1.0], [INF], 1),
        ([INF], [1.0], 1),
        ([1.0, 9.0, 9.0], [1.0, 1.0, 1.0], 2),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_numbers_with_a_point(mine: list[float], golden: list[float], count: int, dtype: str) -> None:
    assert beyond(mine, golden, dtype) == count


@pytest.mark.parametrize(
    ("mine", "golden", "atol", "count"),
    [
        ([5004], [5000], 0.01, 1),  # rtol does not count: the class 5004 is not the class 5000
        ([5], [4], 1.0, 0),
        ([6], [4], 1.0, 1),
        ([2**60], [2**60 + 1], 0.5, 1),
        ([2**63 - 1], [-(2**63)], 1.0, 1),
        ([-(2**63)], [2**63 - 1], 1.0, 1),
    ],
)
def test_whole_numbers(mine: list[int], golden: list[int], atol: float, count: int) -> None:
    assert beyond(mine, golden, "int64", atol=atol) == count


def test_other_kinds() -> None:
    assert beyond([2**64 - 1], [0], "uint64", atol=1.0) == 1
    assert beyond([255], [0], "uint8", atol=254.0) == 1
    assert beyond([True, False], [True, True], "bool") == 1
    assert beyond(["a", "b"], ["a", "c"], "object") == 1


def test_the_worst_element_is_named() -> None:
    found = deviation("y", np.array([[1.0, 5.0], [NAN, 1.0]]), np.array([[1.0, 1.0], [2.0, 1.0]]), asked())
    assert (found.where, found.given, found.golden, found.nonfinite) == ("y[1, 0]", "nan", "2", 1)
    assert (found.elements, found.beyond) == (4, 2)
    near = deviation("y", np.array([1.0, 1.05]), np.array([1.0, 1.0]), asked())
    assert (near.where, near.beyond) == ("y[1]", 0)
    assert near.difference == pytest.approx(0.05)


def test_what_cannot_be_compared() -> None:
    one = np.zeros(3, np.float32)
    assert deviation("y", None, one, asked()).misfit == "is left out"
    assert "shape [4]" in deviation("y", np.zeros(4, np.float32), one, asked()).misfit
    assert "float64" in deviation("y", one.astype(np.float64), one, asked()).misfit
    assert not deviation("y", one[np.newaxis], one, asked()).misfit, "a first axis of 1 may be left out"
    assert not deviation("y", np.zeros((1, 0)), np.zeros(0), asked()).misfit


@given(
    arrays.arrays(np.float32, 8, elements=st.floats(width=32)),
    arrays.arrays(np.float32, 8, elements=st.floats(width=32)),
)
def test_as_numpy_allclose(mine: np.ndarray[Any, Any], golden: np.ndarray[Any, Any]) -> None:
    found = deviation("y", mine, golden, asked(1e-5, 1e-3))
    wide = mine.astype(np.float64), golden.astype(np.float64)
    assert (found.beyond == 0) == np.allclose(*wide, atol=1e-5, rtol=1e-3, equal_nan=True)
    assert not math.isnan(found.difference)
