"""Numbers as JSON or text, and the members of objects."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.steps import Form
from edged.worker.formats.decoded import Array
from tests.unit.worker.formats.samples import ask, one, refused, two

VALUES = Form(format="values")


def read(text: str | bytes, form: Form = VALUES) -> Array:
    decoded = ask(text.encode() if isinstance(text, str) else text, one(), form)
    assert decoded.plain
    assert decoded.numbers
    assert decoded.stepped == "x"
    return decoded.tensors["x"]


def test_whole_numbers_are_int64_and_others_float64() -> None:
    assert read("[1, 2, 3]").dtype == np.int64
    assert read("[1, 2.0, 3]").dtype == np.float64
    assert read("7").tolist() == 7
    assert read(" -2.5e1 ").tolist() == -25.0
    assert read(f"[{2**53 + 1}]").tolist() == [2**53 + 1]
    assert read(f"[{2**64 - 1}]").tolist() == [2**64 - 1]
    assert read(f"[0, 1, {2**64 - 1}]").tolist() == [0, 1, 2**64 - 1]
    assert read(f"[-1, {2**63}]").dtype == np.float64, "no integer dtype has both"
    assert read("[true, false]").tolist() == [1, 0]
    assert str(read("-0.0").item()) == "-0.0"


@given(
    st.recursive(st.integers(-(2**63), 2**63 - 1), lambda inner: st.lists(inner, min_size=2, max_size=2), max_leaves=8)
)
def test_lists_of_one_shape_come_out_as_they_are(value: Any) -> None:
    def shape(one: Any) -> tuple[int, ...] | None:
        if not isinstance(one, list):
            return ()
        inner = {shape(item) for item in one}
        found = inner.pop()
        return None if inner or found is None else (len(one), *found)

    if shape(value) is None:
        refused(json.dumps(value).encode(), one(), "one shape", form=VALUES)
    else:
        assert read(json.dumps(value)).tolist() == value


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_are_exact_as_json_and_as_text(numbers: list[float]) -> None:
    assert read(json.dumps(numbers)).astype(float).tolist() == numbers
    for separator in (",", " ", ", ", "\t", "\n"):
        assert np.atleast_1d(read(separator.join(map(str, numbers)))).astype(float).tolist() == numbers


def test_text_takes_commas_and_white_space() -> None:
    assert read("1.5, 2 3\n").tolist() == [1.5, 2.0, 3.0]
    assert read("1,2\r\n3,4\r\n").tolist() == [1, 2, 3, 4]
    assert read("+5 .5 007").tolist() == [5.0, 0.5, 7.0]
    assert read("-1").tolist() == -1


def test_a_hole_in_the_text_is_a_missing_number() -> None:
    refused(b"1,,3", one(), "number 1 is null", form=VALUES)
    holes = read("1,,3,", Form(format="values", missing="nan"))
    assert np.array_equal(holes, [1, np.nan, 3, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("1;2", "number 0 is '1;2'"),
        ("1 0x10", "'0x10'"),
        ("nan", "'nan'"),
        ("1 inf", "'inf'"),
        ("1_000", "'1_000'"),
        ("1 ٣", "'٣'"),
        ("ON", "'ON'"),
        ("1e999", "out of range"),
        ("2 1e999", "out of range"),
        ("9" * 5000, "too many digits"),
        ("1 " + "9" * 400, "out of range"),
        ('"5"', 'number 0 is "5"'),
        ("[1, [2]]", "one shape"),
        ("[[1], [2, 3]]", "one shape"),
        ('[1, "2"]', 'number 1 is "2"'),
        ('[1, {"a": 1}]', 'number 1 is {"a":1}'),
        ("[1, null]", "number 1 is null"),
        ("null", "number 0 is null"),
        ("[]", "empty list"),
        ("[[], []]", "empty list"),
        ("[NaN]", "neither JSON nor numbers"),
        ("[1, 2", "neither JSON nor numbers"),
        ("{", "neither JSON nor numbers"),
        ("", "neither JSON nor numbers: the payload is empty"),
        ("   ", "neither JSON nor numbers"),
        (f"[{2**64}]", "out of range"),
        (f"[{10**400}, 0.5]", "out of range"),
        ("[" * 33 + "1" + "]" * 33, "deeper than 32"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_what_is_no_number_is_refused_by_its_place(text: str, word: str) -> None:
    refused(text.encode(), one(), word, form=VALUES)


def test_an_object_without_fields_is_told_whose_they_are() -> None:
    """As over HTTP, where no topic says them."""
    refused(b'{"a": 1}', one(), "no `fields` say which", form=VALUES, hint="as if on a topic (`edged infer --topic`")


def test_bytes_that_are_no_text_are_refused() -> None:
    refused(b"\xff\xfe", one(), "neither JSON nor numbers", form=VALUES)
    refused(b"1 \xff", one(), "neither JSON nor numbers", form=VALUES)


def test_one_long_string_among_many_does_not_take_a_matrix_of_text() -> None:
    payload = json.dumps(["x" * 100_000, *("y" for _ in range(10_000))]).encode()
    refused(payload, one(), "number 0 is", form=VALUES)  # numpy would make it 4 GB of equally long strings


def test_members_come_in_the_order_of_the_fields() -> None:
    form = Form(format="values", fields=("temp", "motor.current", "a.b"))
    payload = '{"motor": {"current": 2}, "a.b": 4, "a": {"b": 9}, "temp": 1.5, "rest": "x"}'
    assert read(payload, form).tolist() == [1.5, 2.0, 4.0]
    lists = Form(format="values", fields=("xyz", "t"))
    assert read('{"xyz": [1, 2, 3], "t": 4}', lists).tolist() == [1, 2, 3, 4]


def test_one_field_may_be_a_list_of_lists() -> None:
    form = Form(format="values", fields=("pixels",))
    decoded = ask(b'{"pixels": [[1, 2], [3, 4]]}', one(), form)
    assert decoded.tensors["x"].tolist() == [[1, 2], [3, 4]]
    assert decoded.laid_out
    assert not ask(b'{"pixels": [1, 2, 3, 4]}', one(), form).laid_out


@pytest.mark.parametrize("payload", [b'{"a": 1}', b'{"a": 1, "b": null}', b'{"a": 1, "b": {"c": 2}}'])
def test_a_missing_member_is_refused_or_nan(payload: bytes) -> None:
    fields = ("a", "b.d") if b"c" in payload else ("a", "b")
    refused(payload, one(), f"member {fields[1]} is missing or null", form=Form(format="values", fields=fields))
    array = read(payload, Form(format="values", fields=fields, missing="nan"))
    assert array[0] == 1
    assert np.isnan(array[1])


def test_null_in_a_list_is_refused_or_nan() -> None:
    form = Form(format="values", fields=("w",), missing="nan")
    assert np.array_equal(read('{"w": [1, null]}', form), [1, np.nan], equal_nan=True)
    refused(b'{"w": [1, "2", null]}', one(), 'number 1 is "2"', form=form)
    refused(b'{"w": [1, [null]]}', one(), "one shape", form=form)
    refused(b'{"w": "nan"}', one(), 'number 0 is "nan"', form=form)


def test_fields_need_an_object() -> None:
    refused(b"[1, 2]", one(), "expected an object with the members a, b", form=Form(format="values", fields=("a", "b")))


@pytest.mark.parametrize(
    ("stamp", "ts_ms"),
    [
        ("1700000000", 1_700_000_000_000),
        ("1700000000.25", 1_700_000_000_250),
        ("1700000000123", 1_700_000_000_123),
        ("0", 0),
        ("99999999999", 99_999_999_999_000),
        ("100000000000", 100_000_000_000),
        ('"2023-11-14T22:13:20Z"', 1_700_000_000_000),
        ('"2023-11-14T23:13:20.5+01:00"', 1_700_000_000_500),
        ('"2023-11-14 22:13:20"', 1_700_000_000_000),
        ('"0001-01-01T00:00:00+14:00"', -62_135_647_200_000),
        ("null", None),
    ],
)
def test_the_time_is_milliseconds_whatever_it_was(stamp: str, ts_ms: int | None) -> None:
    form = Form(format="values", fields=("v",), time="at.ts")
    assert ask(f'{{"v": 1, "at": {{"ts": {stamp}}}}}'.encode(), one(), form).ts_ms == ts_ms
    assert ask(b'{"v": 1}', one(), form).ts_ms is None


@pytest.mark.parametrize("stamp", ["1700000000000000", "-1e14", "true", '"yesterday"', "[1]", '""'])
def test_a_time_that_is_none_is_refused(stamp: str) -> None:
    form = Form(format="values", fields=("v",), time="ts")
    refused(f'{{"v": 1, "ts": {stamp}}}'.encode(), one(), "the time ts", form=form)


def test_the_tensor_is_named_where_there_are_several() -> None:
    assert ask(b"[1, 2]", two(), Form(format="values", tensor="b")).stepped == "b"
    refused(b"[1, 2]", two(), "the model has 2 inputs: a, b", form=VALUES)
    refused(b"[1, 2]", two(), "no input c, only a, b", form=Form(format="values", tensor="c"))
    refused(b"[1, 2]", one(), "no input c, only x", form=Form(format="values", tensor="c"))
