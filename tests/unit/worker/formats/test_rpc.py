"""Infer requests and responses as protobuf, against the official classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import service_pb2

from edged import protobuf
from edged.channel import InputHead
from edged.config.steps import Form
from edged.errors import EdgedError
from edged.tensors import DATATYPES, Signature, TensorSpec
from edged.worker.formats import elements, rpc
from edged.worker.formats.decoded import Decoded

CONTENTS = {
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
}


OUTPUTS = TensorSpec("y", "FP32", (-1, 3)), TensorSpec("words", "BYTES", (-1,))


def signature(datatype: str = "FP32", axes: int = 2) -> Signature:
    return Signature((TensorSpec("x", datatype, (-1,) * axes),), OUTPUTS)


def request(array: np.ndarray[Any, Any], datatype: str, *, raw: bool) -> Any:
    made = service_pb2.ModelInferRequest(model_name="m", id="7")
    tensor = made.inputs.add(name="x", datatype=datatype, shape=array.shape)
    if raw:
        made.raw_input_contents.append(elements.to_bytes(array, datatype))
    else:
        values = array.ravel().tolist()
        values = [value.encode() for value in values] if datatype == "BYTES" else values
        getattr(tensor.contents, CONTENTS[datatype]).extend(values)
    return made


def decoded(made: Any, of: Signature | None = None) -> Decoded:
    return rpc.decode(Form(), InputHead(0), memoryview(made.SerializeToString()), of or signature())


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "contents"])
@pytest.mark.parametrize("kind", DATATYPES, ids=lambda kind: kind.oip)
@given(data=st.data())
def test_a_tensor_of_every_datatype_comes_as_it_was_sent(kind: Any, data: st.DataObject, *, raw: bool) -> None:
    if kind.oip == "FP16" and not raw:
        return
    shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    if kind.oip == "BYTES":
        array = data.draw(arrays.arrays(object, shape, elements=st.text(max_size=5)))
    else:
        array = data.draw(arrays.arrays(kind.numpy, shape))
    if not raw and not array.size:
        return
    found = decoded(request(array, kind.oip, raw=raw), signature(kind.oip, array.ndim))
    assert found.id == "7"
    back = found.tensors["x"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)


def test_what_is_asked_for() -> None:
    made = request(np.zeros((1, 2), np.float32), "FP32", raw=True)
    assert decoded(made).requested is None
    made.outputs.add(name="y").parameters["classification"].int64_param = 2
    made.parameters["steps"].bool_param = True
    found = decoded(made)
    assert (found.requested, found.steps, found.stepped) == (("y",), True, "x")
    assert found.classes == {"y": 2}


def change(made: Any, what: str) -> None:
    tensor = made.inputs[0]
    match what:
        case "twice":
            made.inputs.add().CopyFrom(tensor)
            made.raw_input_contents.append(made.raw_input_contents[0])
        case "no input":
            del made.inputs[:]
            del made.raw_input_contents[:]
        case "other name":
            tensor.name = "z"
        case "other datatype":
            tensor.datatype = "INT64"
        case "other shape":
            tensor.shape.append(1)
        case "below 0":
            tensor.shape[0] = -1
        case "two raw":
            made.raw_input_contents.append(b"")
        case "short":
            made.raw_input_contents[0] = b"1234"
        case "both":
            tensor.contents.fp32_contents.append(1)
        case "neither":
            del made.raw_input_contents[:]
        case "wrong contents":
            del made.raw_input_contents[:]
            tensor.contents.fp64_contents.extend([1, 2])
        case "few contents":
            del made.raw_input_contents[:]
            tensor.contents.fp32_contents.append(1)
        case "output":
            made.outputs.add(name="z")
        case "region":
            tensor.parameters["shared_memory_region"].string_param = "r"
        case "output region":
            made.outputs.add(name="y").parameters["shared_memory_region"].string_param = "r"
        case "output twice":
            made.outputs.add(name="y")
            made.outputs.add(name="y")
        case "classes of words":
            made.outputs.add(name="words").parameters["classification"].int64_param = 3


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("twice", "input x is there twice"),
        ("no input", "missing input: x FP32"),
        ("other name", "no input 'z'"),
        ("other datatype", "input x is FP32, the request says INT64"),
        ("other shape", "input x has shape"),
        ("below 0", "a size below 0"),
        ("two raw", "raw_input_contents has 2 tensors for 1 inputs without"),
        ("short", "8 bytes"),
        ("both", "raw_input_contents has 1 tensors for 0 inputs without `contents`"),
        ("neither", "neither `contents` nor raw_input_contents"),
        ("wrong contents", "its contents are of another type"),
        ("few contents", "takes 8 bytes|has 4"),
        ("output", "no output 'z', only words, y"),
        ("region", "input x: there is no shared memory region 'r'"),
        ("output region", "output y: there is no shared memory region 'r'"),
        ("output twice", "output y is asked for twice"),
        ("classes of words", "output words is BYTES: classification takes numbers"),
    ],
)
def test_a_bad_request_is_told_why(what: str, words: str) -> None:
    made = request(np.zeros((1, 2), np.float32), "FP32", raw=True)
    change(made, what)
    with pytest.raises(EdgedError, match="bad_input") as caught:
        decoded(made)
    assert any(word in str(caught.value) for word in words.split("|")), str(caught.value)


def test_inputs_with_contents_and_raw_ones_may_be_mixed() -> None:
    """As they are when one of them was brought in from shared memory."""
    made = service_pb2.ModelInferRequest(raw_input_contents=[b"\x01\x02"])
    made.inputs.add(name="a", datatype="INT8", shape=[1]).contents.int_contents.append(7)
    made.inputs.add(name="b", datatype="INT8", shape=[2])
    both = Signature((TensorSpec("a", "INT8", (-1,)), TensorSpec("b", "INT8", (-1,))), OUTPUTS)
    found = rpc.decode(Form(), InputHead(1), memoryview(made.SerializeToString()), both).tensors
    assert {name: one.tolist() for name, one in found.items()} == {"a": [7], "b": [1, 2]}


def nested(*numbers: int, times: int) -> bytes:
    """So many empty fields in messages in each other."""
    data = b"\x78\x00" * times
    for number in reversed(numbers):
        data = protobuf.put(number, data)
    return data


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (nested(times=70_000), "more than 65536 fields"),
        (nested(4, 2, times=100) * 700, "more than 65536 fields"),
        (nested(5, 4, 2, times=70_000), "more than 65536 fields"),
        (nested(6, 2, 2, times=70_000), "more than 65536 fields"),
        (protobuf.put(5, protobuf.put(3, b"\x01" * 2_000_000)), "its shape has more than 32 axes"),
    ],
)
def test_what_says_nothing_is_not_read_for_long(payload: bytes, words: str) -> None:
    """A run that takes too long ends the process."""
    with pytest.raises(EdgedError, match=words):
        rpc.decode(Form(), InputHead(0), memoryview(payload), signature())


@pytest.mark.parametrize(("datatype", "value"), [("INT8", 128), ("INT8", -129), ("UINT8", 256), ("INT16", 40_000)])
def test_an_element_out_of_range_is_refused(datatype: str, value: int) -> None:
    made = service_pb2.ModelInferRequest()
    getattr(made.inputs.add(name="x", datatype=datatype, shape=[1]).contents, CONTENTS[datatype]).append(value)
    with pytest.raises(EdgedError, match=f"an element is out of {datatype}'s range"):
        decoded(made, signature(datatype, 1))


@given(st.binary(max_size=100), st.binary(max_size=30))
def test_garbage_is_refused(data: bytes, contents: bytes) -> None:
    """In the place of a request, and where its numbers ought to be."""
    made = service_pb2.ModelInferRequest()
    made.inputs.add(name="x", datatype="INT32", shape=[1])
    tensor = made.inputs[0].SerializeToString() + b"\x2a" + bytes((len(contents) + 2, 0x12, len(contents))) + contents
    for payload in (data, b"\x2a" + bytes((len(tensor),)) + tensor):
        try:
            rpc.decode(Form(), InputHead(0), memoryview(payload), signature("INT32", 1))
        except EdgedError as error:
            assert error.fault.code == "bad_input"


@given(
    arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)),
    arrays.arrays(object, (2,), elements=st.text(max_size=5)),
    st.text(max_size=5),
)
def test_an_answer_is_read_by_the_official_class(y: Any, words: Any, id: str) -> None:
    found = {"prediction": [{"label": "daß"}]}
    payload, nonfinite = rpc.encode("m", "3", id, [("y", "FP32", y, True), ("w", "BYTES", words, False)], found)
    answer = service_pb2.ModelInferResponse.FromString(payload)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "3", id)
    assert [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [
        ("y", "FP32", list(y.shape)),
        ("w", "BYTES", [2]),
    ]
    assert answer.raw_output_contents[0] == y.tobytes()
    assert answer.raw_output_contents[1] == elements.to_bytes(words, "BYTES")
    assert answer.parameters["prediction"].string_param == '[{"label":"daß"}]'
    assert nonfinite is (not np.isfinite(y).all())
