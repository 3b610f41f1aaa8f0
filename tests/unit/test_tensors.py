"""tensors: datatypes in three vocabularies, and when one model may take another's place."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.tensors import (
    BY_NUMPY,
    BY_OIP,
    BY_ONNX,
    DATATYPES,
    Datatype,
    Signature,
    TensorSpec,
    contradictions,
    differences,
)

X = TensorSpec("x", "FP32", (-1, 4))
Y = TensorSpec("y", "FP32", (-1, 3))
LIVE = Signature((X,), (Y,))

specs = st.builds(
    TensorSpec,
    st.sampled_from("abc"),
    st.sampled_from(("FP32", "INT64")),
    st.lists(st.sampled_from((-1, 1, 4)), max_size=3).map(tuple),
)
tensors = st.lists(specs, max_size=3, unique_by=lambda spec: spec.name).map(tuple)
signatures = st.builds(Signature, tensors, tensors)


def with_input(*shape: int, datatype: str = "FP32", name: str = "x") -> Signature:
    return Signature((TensorSpec(name, datatype, shape),), (Y,))


def with_output(*shape: int, datatype: str = "FP32", name: str = "y") -> Signature:
    return Signature((X,), (TensorSpec(name, datatype, shape),))


@pytest.mark.parametrize("kind", DATATYPES, ids=lambda kind: kind.oip)
def test_a_datatype_is_numpys_and_has_its_size(kind: Datatype) -> None:
    assert BY_OIP[kind.oip] is BY_ONNX[kind.onnx] is BY_NUMPY[kind.numpy] is kind
    assert np.dtype(kind.numpy).itemsize == (kind.size or np.dtype(object).itemsize)


def test_there_are_the_thirteen_of_the_protocol() -> None:
    assert set(BY_OIP) == {
        *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
        *("FP16", "FP32", "FP64", "BYTES"),
    }


@given(signatures)
def test_a_model_is_what_its_own_document_says(signature: Signature) -> None:
    assert contradictions(signature, signature) == []


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (with_output(-1, 3, name="z"), "its outputs are z, its document says y"),
        (with_output(-1, 3, datatype="FP64"), "its output is y FP64[-1, 3], its document says y FP32[-1, 3]"),
        (with_output(-1, 4), "its output is y FP32[-1, 4], its document says y FP32[-1, 3]"),
        (with_output(-1), "its output is y FP32[-1], its document says y FP32[-1, 3]"),
        (with_output(-1, -1), ""),  # one of two onnxruntimes knows no more
        (with_output(8, 3), ""),
    ],
)
def test_ota_F36_what_contradicts_a_document(found: Signature, says: str) -> None:
    assert "; ".join(contradictions(with_output(-1, 3), found)) == says


@given(signatures)
def test_a_model_can_take_its_own_place(signature: Signature) -> None:
    assert differences(signature, signature) == []


def test_the_order_of_tensors_does_not_matter() -> None:
    other = TensorSpec("z", "INT64", (1,))
    assert differences(Signature((X, other), (Y,)), Signature((other, X), (Y,))) == []


@pytest.mark.parametrize(
    ("candidate", "says"),
    [
        (with_input(-1, 5), "input x has shape [-1, 5], not [-1, 4]"),
        (with_input(-1, 4, 1), "input x has shape [-1, 4, 1], not [-1, 4]"),
        (with_input(1, 4), "input x has shape [1, 4], not [-1, 4]"),  # somebody sends two rows
        (with_input(-1, 4, datatype="FP64"), "input x is FP64, not FP32"),
        (with_output(-1, 5), "output y has shape [-1, 5], not [-1, 3]"),
        (with_output(-1, -1), "output y has shape [-1, -1], not [-1, 3]"),  # somebody counts on 3
        (with_output(-1, 3, datatype="INT8"), "output y is INT8, not FP32"),
    ],
)
def test_what_breaks_a_client_is_named(candidate: Signature, says: str) -> None:
    assert differences(LIVE, candidate) == [says]


def test_a_renamed_tensor_is_both_new_and_missing() -> None:
    assert differences(LIVE, with_input(-1, 4, name="z")) == ["input z is new", "input x is missing"]
    assert differences(LIVE, with_output(-1, 3, name="z")) == ["output z is new", "output y is missing"]


def test_a_freer_input_and_a_more_certain_output_break_nobody() -> None:
    assert differences(LIVE, with_input(-1, -1)) == []
    assert differences(LIVE, with_output(1, 3)) == []


def test_every_difference_is_told() -> None:
    assert len(differences(LIVE, Signature((TensorSpec("x", "INT8", (-1, 4)),), ()))) == 2


@given(signatures, signatures)
def test_replacing_is_told_the_same_way_round_trip(live: Signature, candidate: Signature) -> None:
    """What both may replace each other with has the same names and datatypes on both sides."""
    if not differences(live, candidate) and not differences(candidate, live):
        for mine, theirs in ((live.inputs, candidate.inputs), (live.outputs, candidate.outputs)):
            assert {(one.name, one.datatype) for one in mine} == {(one.name, one.datatype) for one in theirs}


@given(signatures)
def test_a_signature_travels_between_processes(signature: Signature) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(signature), type=Signature) == signature


def test_a_tensor_prints_as_people_write_it() -> None:
    assert str(X) == "x FP32[-1, 4]"
