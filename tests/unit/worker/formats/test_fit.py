"""Layout, batch axis and dtype: from what was sent to what the model takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import EdgedError
from edged.tensors import TensorSpec
from edged.worker.formats.fit import fit
from tests.unit.worker.formats.samples import FLOATS, INTEGERS


def spec(shape: tuple[int, ...], datatype: str = "FP32") -> TensorSpec:
    return TensorSpec("x", datatype, shape)


def shaped(given_shape: tuple[int, ...], wanted: tuple[int, ...], *, laid_out: bool) -> tuple[int, ...] | None:
    """The shape that comes out, None when it is refused."""
    array = np.arange(np.prod(given_shape, dtype=int), dtype=np.float32).reshape(given_shape)
    try:
        fitted, rows = fit(array, spec(wanted), laid_out=laid_out)
    except EdgedError as error:
        assert error.fault.code == "bad_input"
        assert str(list(wanted)) in error.fault.message
        return None
    assert fitted.ravel().tolist() == array.ravel().tolist()
    assert rows == (fitted.shape[0] if fitted.ndim else 1)
    return tuple(fitted.shape)


@pytest.mark.parametrize(
    ("size", "wanted", "result"),
    [
        (64, (-1, 1, 8, 8), (1, 1, 8, 8)),
        (128, (-1, 1, 8, 8), (2, 1, 8, 8)),
        (63, (-1, 1, 8, 8), None),
        (12, (1, 3, 4), (1, 3, 4)),
        (24, (1, 3, 4), None),
        (12, (1, -1, 4), (1, 3, 4)),
        (12, (-1, -1), (1, 12)),
        (12, (-1, -1, 4), (1, 3, 4)),
        (12, (2, -1, -1), None),
        (12, (-1, -1, -1), None),
        (12, (-1,), (12,)),
        (1, (), ()),
        (2, (), None),
        (1, (1,), (1,)),
        (0, (-1, 4), None),
        (3, (-1, 0), None),
        (0, (0, 4), (0, 4)),
    ],
)
def test_flat_numbers_are_laid_out(size: int, wanted: tuple[int, ...], result: tuple[int, ...] | None) -> None:
    assert shaped((size,), wanted, laid_out=False) == result


def test_a_bare_number_is_one_element() -> None:
    assert shaped((), (-1, 1), laid_out=False) == (1, 1)
    assert shaped((), (), laid_out=False) == ()
    assert shaped((), (-1, 2), laid_out=False) is None


@pytest.mark.parametrize(
    ("given_shape", "wanted", "result"),
    [
        ((2, 3), (-1, 3), (2, 3)),
        ((3,), (-1, 3), (1, 3)),
        ((3,), (1, 3), (1, 3)),
        ((3,), (2, 3), None),
        ((2, 3), (3, 2), None),
        ((6,), (2, 3), None),
        ((8, 8), (-1, 1, 8, 8), None),
        ((1, 8, 8), (-1, 1, 8, 8), (1, 1, 8, 8)),
        ((5, 1, 8, 8), (-1, 1, 8, 8), (5, 1, 8, 8)),
        ((), (), ()),
        ((), (-1,), (1,)),
        ((1,), (), None),
        ((7, 3), (-1, -1, 3), (1, 7, 3)),
    ],
)
def test_a_layout_of_its_own_fits_or_lacks_the_batch_axis(
    given_shape: tuple[int, ...], wanted: tuple[int, ...], result: tuple[int, ...] | None
) -> None:
    assert shaped(given_shape, wanted, laid_out=True) == result


def cast(values: Any, datatype: str, dtype: Any = None) -> list[Any]:
    array = np.array(values, dtype=dtype)
    return fit(array, spec((-1,), datatype), laid_out=True, numbers=True)[0].tolist()  # type: ignore[no-any-return]


def cast_error(values: Any, datatype: str, dtype: Any = None) -> str:
    with pytest.raises(EdgedError) as caught:
        cast(values, datatype, dtype)
    assert caught.value.fault.code == "bad_input"
    return caught.value.fault.message


@pytest.mark.parametrize("datatype", INTEGERS)
def test_numbers_become_integers_only_exactly(datatype: str) -> None:
    limits = np.iinfo(datatype.lower())
    assert cast([0.0, 1.0, 100.0], datatype) == [0, 1, 100]
    assert cast([limits.min, 1], datatype, np.int64 if limits.min else np.uint64) == [limits.min, 1]
    assert "is no whole number" in cast_error([1.0, 1.5], datatype)
    assert "is no whole number" in cast_error([1.0, np.nan], datatype)
    assert "is no whole number" in cast_error([np.inf], datatype)
    assert f"({limits.min} .. {limits.max})" in cast_error([float(limits.max) * 4], datatype)
    if not limits.min:
        assert "-1" in cast_error([-1, 5], datatype)


def test_the_edges_of_int64_are_compared_exactly() -> None:
    assert cast([2.0**63 - 1024], "INT64") == [2**63 - 1024]
    cast_error([2.0**63], "INT64")
    cast_error([2**63], "INT64", np.uint64)
    assert cast([2**63 - 1], "UINT64", np.int64) == [2**63 - 1]
    assert cast([-(2.0**63)], "INT64") == [-(2**63)]


@pytest.mark.parametrize("datatype", FLOATS)
def test_numbers_become_floats_by_rounding_but_not_infinite(datatype: str) -> None:
    dtype = np.dtype({"FP16": "f2", "FP32": "f4", "FP64": "f8"}[datatype])
    assert cast([0.1, 3], datatype) == np.array([0.1, 3], dtype=dtype).tolist()
    assert np.isnan(cast([np.nan, 1], datatype)[0])
    assert cast([np.inf], datatype) == [np.inf]
    if datatype != "FP64":
        assert "out of" in cast_error([0.0, 1e300], datatype)
        assert "out of" in cast_error([0.0, -1e300, np.inf], datatype)
    if datatype == "FP16":
        assert "out of" in cast_error([70_000, 0], datatype, np.int64)


def test_numbers_become_booleans_only_from_0_and_1() -> None:
    assert cast([0, 1.0], "BOOL") == [False, True]
    cast_error([2], "BOOL")
    cast_error([0.5], "BOOL")


def test_numbers_are_no_strings() -> None:
    assert "is BYTES" in cast_error([1], "BYTES")


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint8", "float16", "bool"])
def test_a_dtype_that_was_sent_is_not_changed_silently(dtype: str) -> None:
    with pytest.raises(EdgedError) as caught:
        fit(np.zeros(3, dtype=dtype), spec((-1, 3)), laid_out=True)
    assert caught.value.fault.message == f"input x is FP32, the payload is {dtype}"
    assert "`cast: float32`" in caught.value.fault.hint


@given(st.lists(st.floats(width=64), min_size=1), st.sampled_from(["BOOL", *INTEGERS, *FLOATS]))
def test_no_list_of_floats_is_changed_beyond_rounding(values: list[float], datatype: str) -> None:
    try:
        found = cast(values, datatype)
    except EdgedError:
        return
    precision = {"FP16": 2**-11, "FP32": 2**-24}.get(datatype, 0)
    smallest = {"FP16": 2**-24, "FP32": 2**-149}.get(datatype, 0)
    for before, after in zip(values, found, strict=True):
        both_nan = before != before and after != after
        assert both_nan or before == after or abs(before - after) <= max(abs(before) * precision, smallest)
