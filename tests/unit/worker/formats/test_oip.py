"""The Open Inference Protocol's requests: what is read, and what is refused in which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.steps import Form
from edged.tensors import Signature, TensorSpec
from edged.worker.formats.elements import to_bytes, to_json
from edged.worker.formats.encode import encode_request
from tests.unit.worker.formats.samples import ALL, arrays, ask, extremes, one, refused, request, same, two

X: dict[str, Any] = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
A: dict[str, Any] = {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
B: dict[str, Any] = {"name": "b", "shape": [1], "datatype": "INT64", "data": [7]}


def binary(size: int, **changed: Any) -> dict[str, Any]:
    """X as a tensor whose values come behind the JSON."""
    return {**{k: v for k, v in X.items() if k != "data"}, "parameters": {"binary_data_size": size}, **changed}


def test_a_json_request_gives_the_models_own_tensors() -> None:
    decoded = ask(request([X], id="r1"), one())
    assert same(decoded.tensors["x"], np.array([[1, 2, 3, 4]], dtype=np.float32))
    assert (decoded.plain, decoded.id, decoded.requested, decoded.binary) == (False, "r1", None, frozenset())
    assert (decoded.steps, decoded.stepped, decoded.ts_ms) == (False, "", None)


def test_the_worked_request_of_tritonclient() -> None:
    json_part = (
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}],'
        b'"parameters":{"binary_data_output":true}}'
    )
    assert len(json_part) == 134
    decoded = ask((json_part + np.array([1.5, -2], dtype="<f4").tobytes(), 134), one(shape=(-1, 2)))
    assert decoded.tensors["x"].tolist() == [[1.5, -2.0]]
    assert decoded.binary == {"y"}


@pytest.mark.parametrize("datatype", ALL)
def test_extremes_of_every_datatype_in_both_forms(datatype: str) -> None:
    array = extremes(datatype)
    signature = one(datatype, (-1,))
    described = {"name": "x", "shape": list(array.shape), "datatype": datatype}
    payload = request([{**described, "data": to_json(array, datatype)}])
    assert same(ask(payload, signature).tensors["x"], array)
    raw = to_bytes(array, datatype)
    payload = request([{**described, "parameters": {"binary_data_size": len(raw)}}], raw)
    assert same(ask(payload, signature).tensors["x"], array)


@pytest.mark.parametrize("datatype", ALL)
@given(data=st.data())
def test_a_request_of_our_own_making_comes_back_the_same(datatype: str, data: st.DataObject) -> None:
    tensors = {f"t{index}": data.draw(arrays(datatype)) for index in range(2)}
    specs = tuple(TensorSpec(name, datatype, (-1,) * array.ndim) for name, array in tensors.items())
    decoded = ask(encode_request(tensors), Signature(specs, ()))
    assert all(same(decoded.tensors[name], array) for name, array in tensors.items())


def test_json_and_binary_inputs_may_be_mixed_in_any_order() -> None:
    raw_b = np.array([-1, 2], dtype="<i8").tobytes()
    b = {"name": "b", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}}
    for inputs in ([A, b], [b, A]):
        decoded = ask(request(inputs, raw_b), two())
        assert decoded.tensors["b"].tolist() == [-1, 2]
        assert decoded.tensors["a"].tolist() == [[1.0, 2.0]]


def test_outputs_and_their_form_are_the_senders_choice() -> None:
    inputs = [A, B]

    def choice(**members: Any) -> Any:
        decoded = ask(request(inputs, **members), two())
        return decoded.requested, decoded.binary

    everything = {"binary_data_output": True}
    z_raw = {"name": "z", "parameters": {"binary_data": True}}
    z_json = {"name": "z", "parameters": {"binary_data": False}}
    assert choice() == (None, frozenset())
    assert choice(outputs=[]) == (None, frozenset())
    assert choice(outputs=None, parameters=None, id=None) == (None, frozenset())
    assert choice(parameters=everything) == (None, {"y", "z"})
    assert choice(outputs=[{"name": "z"}]) == (("z",), frozenset())
    assert choice(outputs=[z_raw, {"name": "y"}]) == (("z", "y"), {"z"})
    assert choice(outputs=[z_json, {"name": "y"}], parameters=everything) == (("z", "y"), {"y"})


def test_nobody_gets_raw_bytes_who_cannot_read_them() -> None:
    payload = request([X], parameters={"binary_data_output": True})
    assert ask(payload, one(), binary=False).binary == frozenset()
    assert ask((bytes(16), 0), one(), binary=False).binary == frozenset()


def test_unknown_members_and_parameters_are_left_alone() -> None:
    payload = request(
        [{**X, "parameters": {"mine": [1, {"deep": None}]}, "comment": 1}],
        parameters={"priority": 1, "timeout": 5, "mine": {}},
        outputs=[{"name": "y", "parameters": {"mine": 1, "classification": 0}}],
    )
    assert ask(payload, one()).tensors["x"].shape == (1, 4)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([{**X, "name": "X"}], ("no input 'X'", "only x FP32[-1, 4]")),
        ([{**X, "datatype": "FP64"}], ("input x is FP32", "FP64")),
        ([{**X, "datatype": "BF16"}], ("input x is FP32", "BF16")),
        ([{**X, "shape": [1, 5], "data": [1] * 5}], ("[-1, 4]", "[1, 5]")),
        ([{**X, "shape": [4]}], ("[-1, 4]", "[4]")),
        ([{**X, "shape": [1, 1, 4]}], ("[-1, 4]", "[1, 1, 4]")),
        ([{**X, "shape": [-1, 4]}], ("`int` >= 0",)),
        ([{**X, "shape": [1.0, 4]}], ("shape",)),
        ([{**X, "shape": [1] * 33}], ("shape",)),
        ([X, X], ("input x is there twice",)),
        ([], ("missing input: x FP32[-1, 4]",)),
        ([{**X, "data": [1, 2]}], ("takes 4 elements, `data` has 2",)),
        ([{**X, "parameters": {"binary_data_size": 16}}], ("both `data` and binary_data_size",)),
        ([{"name": "x", "shape": [1, 4], "datatype": "FP32"}], ("neither `data` nor binary_data_size",)),
        ([binary(16, parameters={"shared_memory_region": "r"})], ("there is no shared memory region",)),
        ([binary(-1)], ("binary_data_size",)),
        ([binary(2**62)], ("binary_data_size is 4611686018427387904",)),
        ([binary(2**63)], ("binary_data_size",)),
        ([{**X, "shape": [2**63, 4]}], ("shape",)),
        ([{**X, "shape": [2**63 - 1, 4]}], ("takes 36893488147419103228 elements, `data` has 4",)),
        ([binary(0, shape=[2**63 - 1, 4])], ("takes 147573952589676412912 bytes, 0 came",)),
        ([{**X, "data": None}], ("no list",)),
        ([{"name": 1}], ("name",)),
        ("x", ("inputs",)),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: Any, words: tuple[str, ...]) -> None:
    refused(request(inputs), one(), *words)


def test_the_bytes_behind_the_json_are_exactly_those_announced() -> None:
    refused(request([binary(16)], bytes(15)), one(), "binary_data_size is 16", "15 bytes left")
    refused(request([binary(16)], bytes(17)), one(), "1 bytes are left")
    refused(request([binary(12)], bytes(12)), one(), "takes 16 bytes, 12 came")
    refused(request([X], b"\0"), one(), "1 bytes are left")


def test_the_length_of_the_json_lies_within_the_body() -> None:
    payload, length = request([binary(16)], bytes(16))
    refused((payload, len(payload) + 1), one(), f"is {len(payload) + 1}, the body has {len(payload)} bytes")
    refused((payload, length - 1), one(), "not JSON")
    refused((payload, length + 1), one(), "not JSON")
    refused(payload[:length], one(), "length of the JSON is not known")
    nothing = binary(0, shape=[0, 4])
    assert ask(request([nothing]), one()).tensors["x"].shape == (0, 4)
    refused(request([nothing])[0], one(), "length of the JSON is not known")


@pytest.mark.parametrize(
    "text", ["", " ", "{", "[]", "null", "1", '{"inputs": [}', "{'inputs': []}", '{"inputs": []} x', '{"inputs": NaN}']
)
def test_what_is_no_request_is_refused(text: str) -> None:
    refused(text.encode(), one(), form=Form(format="oip"))
    refused(b'{"inputs":[], "id": "\xff"}', one(), "not JSON", form=Form(format="oip"))


@pytest.mark.parametrize("bomb", [b"[" * 100_000, b'{"inputs":' + b"[" * 100_000, b'{"x":' + b'{"x":' * 100_000])
def test_a_bomb_of_brackets_is_refused(bomb: bytes) -> None:
    refused(bomb, one(), form=Form(format="oip"))
    body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":' + b"[" * 100_000
    refused(body, one(), "nested too deep", form=Form(format="oip"))


def test_outputs_that_cannot_be_given_are_refused() -> None:
    inputs = [X]
    refused(request(inputs, outputs=[{"name": "Y"}]), one(), "no output 'Y', only y")
    refused(request(inputs, outputs=[{"name": "y"}, {"name": "y"}]), one(), "asked for twice")
    shared = {"name": "y", "parameters": {"shared_memory_region": "r"}}
    refused(request(inputs, outputs=[shared]), one(), "there is no shared memory region")


def test_classes_of_an_output() -> None:
    asked = request([X], outputs=[{"name": "y", "parameters": {"classification": 2, "binary_data": True}}])
    decoded = ask(asked, one())
    assert decoded.classes == {"y": 2}
    assert (decoded.binary, decoded.requested) == (frozenset("y"), ("y",))
    assert not ask(request([X], outputs=[{"name": "y", "parameters": {"classification": 0}}]), one()).classes
    for wrong in (-1, 1.5, "2"):
        asks = request([X], outputs=[{"name": "y", "parameters": {"classification": wrong}}])
        refused(asks, one(), "classification", hint="docs/http-api.md")
    strings = Signature(one().inputs, (TensorSpec("y", "BYTES", (-1,)),))
    refused(asked, strings, "classification takes numbers", hint="Leave `classification` out")


def test_a_raw_body_is_the_only_input() -> None:
    values = np.arange(8, dtype="<f4")
    decoded = ask((values.tobytes(), 0), one())
    assert same(decoded.tensors["x"], values.reshape(2, 4))
    assert decoded.binary == {"y"}
    assert not decoded.plain
    assert same(ask((values.tobytes(), 0), one(shape=(2, 4))).tensors["x"], values.reshape(2, 4))
    assert ask(("née".encode(), 0), one("BYTES", (-1, 1))).tensors["x"].tolist() == [["née"]]
    refused((bytes(15), 0), one(), "takes 0 bytes, 15 came")
    assert same(ask((values.tobytes(), 0), one(shape=(-1, -1))).tensors["x"], values.reshape(1, 8))  # one row
    assert same(ask((values.tobytes(), 0), one(shape=(-1, -1, 2))).tensors["x"], values.reshape(1, 4, 2))
    refused((bytes(32), 0), one(shape=(-1, -1, -1)), "cannot tell the shape")
    refused((bytes(32), 0), one(shape=(2, -1, -1)), "cannot tell the shape")
    refused((bytes(32), 0), two(), "the model has 2 inputs: a, b")
    refused((bytes(32), 0), one("BYTES", (-1, 2)), "one string")
    refused((b"\xff", 0), one("BYTES", (1,)), "UTF-8")


def test_with_steps_the_tensor_is_not_yet_the_models() -> None:
    pixels = {"name": "x", "shape": [2, 2], "datatype": "UINT8", "data": [[0, 1], [2, 255]]}
    decoded = ask(request([pixels], parameters={"steps": True}), one())
    assert (decoded.steps, decoded.stepped, decoded.plain) == (True, "x", False)
    assert same(decoded.tensors["x"], np.array([[0, 1], [2, 255]], dtype=np.uint8))
    refused(request([{**pixels, "datatype": "WORD"}], parameters={"steps": True}), one(), "no datatype 'WORD'")
    steps: Any = {"parameters": {"steps": True}}
    assert ask(request([A, B], **steps), two()).stepped == ""
    assert ask(request([A, B], **steps), two(), Form(tensor="b")).stepped == "b"
    refused(request([A, {**B, "datatype": "INT8"}], **steps), two(), "input b is INT64", form=Form(tensor="a"))
    refused(request([A, B], **steps), two(), "no input c", form=Form(tensor="c"))


@given(cut=st.integers(0, 250), junk=st.binary(max_size=4))
def test_a_request_cut_anywhere_is_refused(cut: int, junk: bytes) -> None:
    payload, length = request([binary(16)], bytes(16), id="some id", outputs=[{"name": "y"}])
    short = payload[: min(cut, len(payload) - 1)]
    refused((short, length), one())
    refused((short + junk + bytes(20), length), one())


def test_numbers_too_long_to_print_are_refused_all_the_same() -> None:
    long = 10**4000
    free = one(shape=(-1, -1))
    refused(request([{**X, "shape": [long, long]}]), free, "shape")
    refused(request([binary(16, shape=[long, long])], bytes(16)), free, "shape")
    refused(request([binary(long)], bytes(16)), free, "binary_data_size")
    refused(request([{**X, "datatype": "INT8", "data": [long] * 4}]), one("INT8"), "element 0")
    form = Form(format="values", fields=("v",), time="ts")
    refused(f'{{"v": 1, "ts": {long}}}'.encode(), one(), "the time ts", form=form)
    refused(f'{{"v": {long}}}'.encode(), one(), "out of range", form=form)
