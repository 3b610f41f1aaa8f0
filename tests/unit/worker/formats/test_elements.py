"""Every datatype, as JSON and as raw bytes, exact in both directions."""

from __future__ import annotations

import json
import struct
import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import EdgedError
from edged.worker.formats import elements
from edged.worker.formats.decoded import Array
from tests.unit.worker.formats.samples import ALL, FLOATS, INTEGERS, arrays, extremes, same


def read(text: str, datatype: str, shape: list[int]) -> Array:
    return elements.from_json(msgspec.Raw(text.encode()), "x", datatype, shape)


def read_error(text: str, datatype: str, shape: list[int]) -> str:
    with pytest.raises(EdgedError) as caught:
        read(text, datatype, shape)
    assert caught.value.fault.code == "bad_input"
    assert "input x" in caught.value.fault.message
    return caught.value.fault.message


def bytes_error(data: bytes, datatype: str, shape: list[int]) -> str:
    with pytest.raises(EdgedError) as caught:
        elements.from_bytes(memoryview(data), "x", datatype, shape)
    assert caught.value.fault.code == "bad_input"
    return caught.value.fault.message


@pytest.mark.parametrize("datatype", ALL)
def test_extremes_survive_json_and_bytes(datatype: str) -> None:
    array = extremes(datatype)
    text = json.dumps(elements.to_json(array, datatype))
    assert same(read(text, datatype, list(array.shape)), array)
    raw = elements.to_bytes(array, datatype)
    assert same(elements.from_bytes(memoryview(raw), "x", datatype, list(array.shape)), array)


@pytest.mark.parametrize("datatype", ALL)
@given(data=st.data())
def test_any_array_survives_json_flat_and_nested(datatype: str, data: st.DataObject) -> None:
    array = data.draw(arrays(datatype))
    flat = [None if value != value else value for value in elements.to_json(array, datatype)]
    assert same(read(json.dumps(flat), datatype, list(array.shape)), array)
    nested = np.array(flat, dtype=object).reshape(array.shape).tolist()
    assert same(read(json.dumps(nested), datatype, list(array.shape)), array)


@pytest.mark.parametrize("datatype", ALL)
@given(data=st.data(), offset=st.integers(0, 9))
def test_any_array_survives_bytes_at_any_offset(datatype: str, data: st.DataObject, offset: int) -> None:
    array = data.draw(arrays(datatype))
    raw = b"?" * offset + elements.to_bytes(array, datatype)
    read_back = elements.from_bytes(memoryview(raw)[offset:], "x", datatype, list(array.shape))
    assert same(read_back, array)
    assert read_back.flags.aligned


def test_the_bytes_of_one_tensor_by_hand() -> None:
    assert elements.to_bytes(np.array([1, -2], dtype=np.int16), "INT16") == b"\x01\x00\xfe\xff"
    assert elements.to_bytes(np.array([1.5], dtype=np.float32), "FP32") == struct.pack("<f", 1.5)
    assert elements.to_bytes(np.array([True, False]), "BOOL") == b"\x01\x00"
    assert elements.to_bytes(np.array(["é", ""], dtype=object), "BYTES") == b"\x02\0\0\0\xc3\xa9\0\0\0\0"


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_out_of_range_are_refused_and_the_last_ones_are_not(datatype: str) -> None:
    limits = np.iinfo(elements.DTYPES[datatype])
    assert read(f"[{limits.min}, {limits.max}]", datatype, [2]).tolist() == [limits.min, limits.max]
    for value in (limits.min - 1, limits.max + 1, 10**40):
        assert datatype in read_error(f"[0, {value}]", datatype, [2])


def test_integers_say_which_element_and_what_was_there() -> None:
    assert read_error("[1, 2, 256]", "UINT8", [3]) == "input x is UINT8: element 2 is 256: Expected `int` <= 255"
    assert "element 1 is 2.5" in read_error("[1, 2.5]", "INT32", [2])


def test_whole_floats_are_integers_and_others_are_not() -> None:
    assert read("[1.0, -2e3, 1e18]", "INT64", [3]).tolist() == [1, -2000, 10**18]
    for text in ("[0.5]", "[1e30]", "[true]", '["1"]', "[null]"):
        read_error(text, "INT64", [1])


def test_integers_above_the_precision_of_a_double_stay_exact() -> None:
    assert read(f"[{2**53 + 1}, {-(2**62) - 1}]", "INT64", [2]).tolist() == [2**53 + 1, -(2**62) - 1]
    assert read(f"[[{2**64 - 1}]]", "UINT64", [1, 1]).tolist() == [[2**64 - 1]]


@pytest.mark.parametrize("datatype", FLOATS)
def test_null_is_nan_and_infinity_cannot_be_written(datatype: str) -> None:
    array = read("[1, null, -2.5]", datatype, [3])
    assert array[0] == 1
    assert np.isnan(array[1])
    assert array[2] == -2.5
    for text in ("[NaN]", "[Infinity]", "[1e999]", f"[{'9' * 400}]", "[true]", '["1"]'):
        read_error(text, datatype, [1])


def test_floats_that_would_become_infinite_are_refused() -> None:
    assert read("[3.4028235677973362e38]", "FP32", [1])[0] == np.finfo(np.float32).max
    read_error("[3.4028235677973366e38]", "FP32", [1])
    assert read("[65519.99]", "FP16", [1])[0] == 65504
    read_error("[-65520]", "FP16", [1])


def test_booleans_and_strings_are_strict() -> None:
    assert read("[true, false]", "BOOL", [2]).tolist() == [True, False]
    assert "element 0 is 1" in read_error("[1]", "BOOL", [1])
    assert "element 1 is null" in read_error('["a", null]', "BYTES", [2])
    read_error('["\\ud800"]', "BYTES", [1])


def test_nesting_is_that_of_the_shape() -> None:
    assert read("[[1,2,3],[4,5,6]]", "INT8", [2, 3]).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read("[1,2,3,4,5,6]", "INT8", [2, 3]).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read("7", "FP32", []).shape == ()
    assert read("[7]", "FP32", []).shape == ()
    assert read("[[], []]", "FP32", [2, 0]).shape == (2, 0)
    assert read("[]", "FP32", [0, 3]).shape == (0, 3)
    wrong = ("[[1,2],[3,4],[5,6]]", "[[1,2,3],[4,5]]", "[[1,2,3],4,5,6]", "[[[1,2,3],[4,5,6]]]", "[[1,[2],3],[4,5,6]]")
    for text in wrong:
        assert "nested" in read_error(text, "INT8", [2, 3])
    assert "no list" in read_error("6", "INT8", [1])
    read_error("[[1]]", "INT8", [])


def test_the_number_of_elements_is_that_of_the_shape() -> None:
    assert "takes 6 elements, `data` has 5" in read_error("[1,2,3,4,5]", "INT8", [2, 3])
    assert "takes 1099511627776 elements" in read_error("[1]", "FP32", [2**40])
    assert "takes" in read_error("[1]", "FP32", [2**40, 2**40])
    long = "[" + "0," * 40_000 + "0]"
    assert "`data` has 40001" in read_error(long, "FP32", [2])
    assert read(long, "FP32", [40_001]).size == 40_001


def test_a_long_list_for_a_small_shape_is_not_built_first() -> None:
    raw = msgspec.Raw(b"[" + b"0.5," * 1_000_000 + b"0.5]")
    tracemalloc.start()
    try:
        with pytest.raises(EdgedError, match="`data` has 1000001"):
            elements.from_json(raw, "x", "FP32", [2])
        assert tracemalloc.get_traced_memory()[1] < 8_000_000  # 32 MB as a list of floats
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("deep", [33, 500, 100_000])
@pytest.mark.parametrize("closed", [True, False])
def test_a_pile_of_brackets_is_refused(deep: int, *, closed: bool) -> None:
    read_error("[" * deep + ("]" * deep if closed else ""), "FP32", [1])


@pytest.mark.parametrize("shape", [[0, 2**40, 2**40], [2**62, 0, 4], [0, 2**63]])
def test_empty_shapes_that_no_array_can_have_are_refused(shape: list[int]) -> None:
    assert "too large" in bytes_error(b"", "FP32", shape)
    assert "too large" in read_error("[]", "FP32", shape)


def test_raw_bytes_must_have_the_size_of_the_tensor() -> None:
    assert bytes_error(bytes(7), "FP32", [2]) == "input x: FP32[2] takes 8 bytes, 7 came"
    assert "takes 8 bytes, 9 came" in bytes_error(bytes(9), "FP32", [1, 2])
    assert "came" in bytes_error(bytes(8), "FP64", [2**40, 2**40])
    assert "there is a 2" in bytes_error(b"\x00\x02", "BOOL", [2])


@pytest.mark.parametrize(
    ("data", "shape", "word"),
    [
        (b"\x02\0\0\0a", [1], "ends after"),
        (b"\xff\xff\xff\xffa", [1], "ends after"),
        (b"\x01\0\0\0a", [2], "at least 8"),
        (b"\x01\0\0\0a\x09\0", [2], "at least 8"),
        (b"\x03\0\0\0abc\x09", [2], "ends after"),
        (b"\x01\0\0\0ab", [1], "1 bytes are left"),
        (b"x", [0], "1 bytes are left"),
        (b"\x01\0\0\0\xff", [1], "not UTF-8"),
        (b"\x03\0\0\0\xed\xa0\x80", [1], "not UTF-8"),
        (b"", [2**40], "at least"),
    ],
)
def test_broken_strings_are_refused(data: bytes, shape: list[int], word: str) -> None:
    assert word in bytes_error(data, "BYTES", shape)


def test_strings_that_json_cannot_carry_are_replaced() -> None:
    array = np.array(["\ud800", "ok"], dtype=object)
    assert json.loads(msgspec.json.encode(elements.to_json(array, "BYTES"))) == ["?", "ok"]
    assert elements.to_bytes(array, "BYTES") == b"\x01\0\0\0?\x02\0\0\0ok"


@pytest.mark.parametrize("datatype", ALL)
@given(raw=st.binary(max_size=40) | st.text(alphabet='[]{},".0123456789eE+-nul tr', max_size=40).map(str.encode))
def test_any_text_is_read_or_refused(datatype: str, raw: bytes) -> None:
    try:
        array = elements.from_json(msgspec.Raw(raw), "x", datatype, [2])
    except EdgedError as error:
        assert error.fault.code == "bad_input"
    else:
        assert array.shape == (2,)
        assert array.dtype == elements.DTYPES[datatype]
