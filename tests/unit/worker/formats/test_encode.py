"""Responses: JSON, raw tensors, and what NaN becomes."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.messages import Answer, with_parameters
from edged.worker.formats.decoded import Array
from edged.worker.formats.elements import from_bytes
from edged.worker.formats.encode import encode, encode_request
from tests.unit.worker.formats.samples import ALL, arrays, extremes, same


def parsed(payload: bytes, json_length: int) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(payload[: json_length or len(payload)])
    return loaded


def test_the_response_byte_by_byte() -> None:
    y = np.array([[0.5, -2]], dtype=np.float32)
    text = b'{"model_name":"m","model_version":"3","outputs":[{"name":"y","datatype":"FP32","shape":[1,2],'
    assert encode("m", "3", "", [("y", "FP32", y, False)]) == (text + b'"data":[0.5,-2.0]}]}', 0, False)
    described = text + b'"parameters":{"binary_data_size":8}}]}'
    expected = described + struct.pack("<2f", 0.5, -2)
    assert encode("m", "3", "", [("y", "FP32", y, True)]) == (expected, len(described), False)


def test_the_id_and_the_prediction_stand_on_top() -> None:
    payload, length, _ = encode("m", "3", "r 1", [], {"prediction": [{"index": 1, "score": 0.5}]})
    found = parsed(payload, length)
    assert found["id"] == "r 1"
    assert found["prediction"] == [{"index": 1, "score": 0.5}]
    assert "id" not in parsed(*encode("m", "3", "", [])[:2])


def test_parameters_can_be_spliced_in_afterwards() -> None:
    y = np.arange(3, dtype=np.int8)
    for binary in (False, True):
        payload, length, nonfinite = encode("m", "3", "", [("y", "INT8", y, binary)])
        spliced, spliced_length = with_parameters(Answer(payload, length, "3", nonfinite=nonfinite), {"seq": 4})
        assert parsed(spliced, spliced_length)["parameters"] == {"seq": 4}
        assert spliced[spliced_length or len(spliced) :] == (y.tobytes() if binary else b"")


def decoded(payload: bytes, json_length: int) -> dict[str, Array]:
    """A client's reading of a response."""
    found, start = {}, json_length
    for output in parsed(payload, json_length)["outputs"]:
        name, datatype, shape = output["name"], output["datatype"], output["shape"]
        if "data" in output:
            kind = {"FP16": "f2", "FP32": "f4", "FP64": "f8", "BYTES": "O"}.get(datatype, datatype.lower())
            found[name] = np.array(output["data"], dtype=kind).reshape(shape)
        else:
            size = output["parameters"]["binary_data_size"]
            found[name] = from_bytes(memoryview(payload)[start : start + size], name, datatype, shape)
            start += size
    assert start in (0, len(payload))
    return found


@pytest.mark.parametrize("datatype", ALL)
@pytest.mark.parametrize("binary", [False, True])
def test_extremes_of_every_datatype_arrive(datatype: str, *, binary: bool) -> None:
    array = extremes(datatype)
    payload, length, nonfinite = encode("m", "1", "", [("y", datatype, array, binary)])
    assert same(decoded(payload, length)["y"], array)
    assert not nonfinite


@pytest.mark.parametrize("datatype", ALL)
@given(data=st.data(), forms=st.lists(st.booleans(), min_size=1, max_size=3))
def test_any_outputs_arrive_in_any_form(datatype: str, data: st.DataObject, forms: list[bool]) -> None:
    outputs = [(f"y{index}", datatype, data.draw(arrays(datatype)), form) for index, form in enumerate(forms)]
    payload, length, nonfinite = encode("m", "1", "", outputs)
    assert (length > 0) == any(forms)
    found = decoded(payload, length)
    assert all(same(found[name], array) for name, _, array, _ in outputs)
    broken = any(array.dtype.kind == "f" and np.isnan(array).any() for _, _, array, _ in outputs)
    assert nonfinite == broken


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_what_is_not_finite_is_null_in_json_and_flagged_in_both(value: float, datatype: str) -> None:
    array = np.array([1, value], dtype={"FP16": "f2", "FP32": "f4", "FP64": "f8"}[datatype])
    payload, length, nonfinite = encode("m", "1", "", [("y", datatype, array, False)])
    assert nonfinite
    assert parsed(payload, length)["outputs"][0]["data"] == [1.0, None]
    payload, length, nonfinite = encode("m", "1", "", [("y", datatype, array, True)])
    assert nonfinite
    assert payload[length:] == array.tobytes()


def test_a_float32_arrives_as_the_same_float32() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 0x7F800000, 5000, dtype=np.uint32).view(np.float32)
    payload, length, _ = encode("m", "1", "", [("y", "FP32", bits, False)])
    assert same(decoded(payload, length)["y"], bits)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_rounded_values_are_shown_as_the_decimals_they_are(datatype: str) -> None:
    array = np.round(np.array([0.9, -12.34, 1e4 / 3, np.nan]), 2).astype(
        {"FP16": "f2", "FP32": "f4", "FP64": "f8"}[datatype]
    )
    outputs = [("y", datatype, array, False), ("z", datatype, array, False), ("raw", datatype, array, True)]
    payload, length, nonfinite = encode("m", "1", "", outputs, decimals={"y": 2, "raw": 2})
    y, z, _ = parsed(payload, length)["outputs"]
    assert y["data"][:2] == [0.9, -12.34]
    assert y["data"][3] is None
    assert nonfinite
    assert same(np.array(y["data"], dtype=array.dtype), array)
    assert same(np.array(z["data"], dtype=array.dtype), array)
    assert payload[length:] == array.tobytes()


def test_strings_that_are_no_text_do_not_break_the_json() -> None:
    array = np.array(["\ud800", "ok"], dtype=object)
    payload, length, _ = encode("m", "1", "", [("y", "BYTES", array, False)])
    assert parsed(payload, length)["outputs"][0]["data"] == ["?", "ok"]


@pytest.mark.parametrize(
    ("item", "shown", "flagged"),
    [
        ({"a": 0.5, 'b"': 2.0}, '{"a":0.5,"b\\"":2.0}', False),
        ({0: 0.5, -7: float("nan")}, '{"0":0.5,"-7":null}', True),
        ({"a": float("inf")}, '{"a":null}', True),
        ({}, "{}", False),
        (np.array([[1, 2]], dtype=np.int64), "[[1,2]]", False),
        (np.array([1, np.inf], dtype=np.float16), "[1.0,null]", True),
        (np.array(0.5), "0.5", False),
        (np.array(["a", "\u00e9"], dtype=object), '["a","é"]', False),
    ],
)
def test_items_of_a_sequence_are_json_values_and_in_binary_their_text(item: Any, shown: str, *, flagged: bool) -> None:
    items = np.empty(1, dtype=object)
    items[0] = item
    payload, length, nonfinite = encode("m", "1", "", [("y", "BYTES", items, False)])
    assert nonfinite is flagged
    assert parsed(payload, length)["outputs"][0]["data"] == [json.loads(shown)]
    payload, length, nonfinite = encode("m", "1", "", [("y", "BYTES", items, True)])
    assert nonfinite is flagged
    assert payload[length:] == struct.pack("<I", len(shown.encode())) + shown.encode()


def test_a_response_without_tensors_has_no_length() -> None:
    assert encode("m", "1", "", [])[1] == 0


def test_empty_raw_tensors_still_have_a_length() -> None:
    payload, length, _ = encode("m", "1", "", [("y", "FP32", np.zeros((0, 3), np.float32), True)])
    assert length == len(payload)
    assert parsed(payload, length)["outputs"][0]["parameters"] == {"binary_data_size": 0}


def test_a_request_names_each_dtype_in_the_protocols_words() -> None:
    payload, length = encode_request({"a": np.zeros(1, np.float16), "b": np.array(["é"], dtype=object)})
    found = parsed(payload, length)["inputs"]
    assert [(one["name"], one["datatype"], one["shape"]) for one in found] == [("a", "FP16", [1]), ("b", "BYTES", [1])]
    assert payload[length:] == b"\0\0\x02\0\0\0\xc3\xa9"
