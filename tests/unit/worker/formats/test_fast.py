"""The fast lane's bodies: every datatype comes through as it was, and what does not fit is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged import frames
from edged.errors import EdgedError
from edged.tensors import Signature, TensorSpec
from edged.worker.formats import fast
from edged.worker.formats.decoded import Array
from edged.worker.formats.elements import DATATYPE_OF, from_bytes, to_bytes
from edged.worker.formats.fast import Fast
from tests.unit.worker.formats.samples import ALL, arrays, extremes, one, same, two


def body(tensors: Mapping[str, Array], asked: Sequence[str] = (), flags: int = 0) -> bytes:
    """A request's body, or a result's."""
    data = [to_bytes(array, DATATYPE_OF[array.dtype]) for array in tensors.values()]
    described = [
        (name, DATATYPE_OF[array.dtype], array.shape, len(part))
        for (name, array), part in zip(tensors.items(), data, strict=True)
    ]
    begin, gaps = frames.describe(described, asked, flags=flags)
    return begin + b"".join(part + bytes(gap) for part, gap in zip(data, gaps, strict=True))


def read(result: bytes) -> dict[str, Array]:
    said = frames.read_body(frames.described(result))
    assert said.size == len(result)
    view = memoryview(result)
    return {
        name: from_bytes(view[start : start + size], name, datatype, shape)
        for name, datatype, shape, size, start in said.tensors
    }


def refused(payload: bytes, signature: Signature, *words: str) -> None:
    with pytest.raises(EdgedError) as caught:
        Fast(signature).decode(memoryview(payload))
    problem = caught.value.fault
    assert problem.code == "bad_input"
    assert problem.hint
    for word in words:
        assert word in problem.message


@pytest.mark.parametrize("datatype", ALL)
@given(data=st.data())
def test_tensors_come_through_both_ways(datatype: str, data: st.DataObject) -> None:
    tensors = {f"t{index}": data.draw(arrays(datatype)) for index in range(data.draw(st.integers(1, 3)))}
    specs = tuple(TensorSpec(name, datatype, (-1,) * array.ndim) for name, array in tensors.items())
    codec = Fast(Signature(specs, specs))
    request = body(tensors)
    for _ in range(2):  # worked out, then looked up
        decoded = codec.decode(memoryview(request))
        assert all(same(decoded.tensors[name], array) for name, array in tensors.items())
        result, nonfinite = codec.encode([(name, datatype, array, True) for name, array in tensors.items()])
        assert result == request
        assert nonfinite == any(array.dtype.kind == "f" and np.isnan(array).any() for array in tensors.values())
    assert all(same(found, tensors[name]) for name, found in read(result).items())


@pytest.mark.parametrize("datatype", ALL)
def test_extremes_of_every_datatype(datatype: str) -> None:
    array = extremes(datatype)
    assert same(Fast(one(datatype, (-1,))).decode(memoryview(body({"x": array}))).tensors["x"], array)


@pytest.mark.parametrize("at", range(8))
def test_it_does_not_matter_where_the_bytes_lie(at: int) -> None:
    x = np.array([[1, 2, 3, 4]], dtype=np.float32)
    request = bytes(at) + body({"x": x})
    found = Fast(one()).decode(memoryview(request)[at:]).tensors["x"]
    assert same(found, x)
    assert found.flags.aligned


def test_a_result_whose_rows_are_not_in_one_piece() -> None:
    column = np.arange(6, dtype=np.float32).reshape(2, 3).T
    result, _ = Fast(one()).encode([("y", "FP32", column, True)])
    assert same(read(result)["y"], np.ascontiguousarray(column))


def test_outputs_steps_and_what_the_steps_found() -> None:
    a, b = np.zeros((1, 2), np.float32), np.array([7])
    decoded = Fast(two()).decode(memoryview(body({"b": b, "a": a}, asked=["z", "y"])))
    assert (decoded.requested, decoded.steps, decoded.plain) == (("z", "y"), False, False)
    assert Fast(two()).decode(memoryview(body({"a": a, "b": b}))).requested is None
    stepped = Fast(one()).decode(memoryview(body({"x": np.zeros((2, 2), np.uint8)}, flags=frames.STEPS)))
    assert (stepped.steps, stepped.stepped, stepped.tensors["x"].dtype) == (True, "x", np.uint8)
    result, _ = Fast(one()).encode(
        [("y", "FP32", np.ones((1, 3), np.float32), True)], {"prediction": [{"label": "é", "score": 0.5}]}
    )
    found = read(result)
    assert list(found) == ["prediction", "y"]
    assert found["prediction"].tolist() == ['{"label":"é","score":0.5}']


def test_what_does_not_fit_the_model_is_told() -> None:
    x = np.zeros((1, 4), np.float32)
    refused(b"", one(), "8 at least")
    refused(body({"x": x})[:-1], one(), "take a body of 48 bytes, it has 47")
    refused(body({"x": x}) + b"\0", one(), "it has 49")
    refused(body({"w": x}), one(), "no input 'w'", "x FP32[-1, 4]")
    refused(body({"x": x.astype(np.float64)}), one(), "is FP32", "says FP64")
    refused(body({"x": x[0]}), one(), "has shape [-1, 4]", "says [4]")
    refused(body({}), one(), "missing input: x")
    refused(body({"x": x}, asked=["q"]), one(), "no output 'q'")
    refused(body({"x": x}, asked=["y", "y"]), one(), "asked for twice")
    twice, _ = frames.describe([("x", "FP32", (1, 4), 16)] * 2)
    refused(twice + bytes(32), one(), "x is there twice")
    short, _ = frames.describe([("x", "FP32", (1, 4), 12)])
    refused(short + bytes(12), one(), "takes 16 bytes, the request says 12")
    refused(body({"x": np.array([[2]], np.uint8)}, flags=0), one("UINT16", (1, 1)), "is UINT16")
    bad, _ = frames.describe([("x", "BOOL", (1,), 1)])
    refused(bad + b"\2", one("BOOL", (1,)), "there is a 2")
    huge, _ = frames.describe([("x", "FP32", (2**32 - 1,) * 31 + (0,), 0)])
    refused(huge, one(shape=(-1,) * 32), "too large")


@given(st.binary(max_size=60))
def test_garbage_is_bad_input(data: bytes) -> None:
    with pytest.raises(EdgedError, match="bad_input"):
        Fast(one()).decode(memoryview(data))


def test_what_is_remembered_is_bounded() -> None:
    codec = Fast(one(shape=(-1,)))
    for size in range(2 * fast._KEPT + 10):
        array = np.zeros(size, np.float32)
        codec.decode(memoryview(body({"x": array})))
        codec.encode([("y", "FP32", array, True)])
    assert len(codec._plans) <= fast._KEPT
    assert len(codec._laid_out) <= fast._KEPT
