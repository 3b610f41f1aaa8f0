"""Signatures, payloads and values that the tests of the formats share."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import strategies as st

from edged.channel import InputHead
from edged.config.steps import Form
from edged.errors import EdgedError
from edged.tensors import BY_OIP, DATATYPES, Signature, TensorSpec
from edged.worker.formats.decoded import Array, Decoded
from edged.worker.formats.elements import DTYPES
from edged.worker.formats.table import decode

NUMBERS = tuple(kind.oip for kind in DATATYPES if kind.oip not in ("BYTES", "BOOL"))
INTEGERS = tuple(name for name in NUMBERS if "INT" in name)
FLOATS = ("FP16", "FP32", "FP64")
ALL = tuple(kind.oip for kind in DATATYPES)

TEXTS = ["", "a", "\x00", "é", "日本", "𝄞 clef", 'quote " and \\', "line\nfeed", "x" * 5000]


def one(datatype: str = "FP32", shape: tuple[int, ...] = (-1, 4), *, name: str = "x") -> Signature:
    """A model with one input, and one FP32 output y."""
    return Signature((TensorSpec(name, datatype, shape),), (TensorSpec("y", "FP32", (-1, 3)),))


def two() -> Signature:
    inputs = (TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "INT64", (-1,)))
    return Signature(inputs, (TensorSpec("y", "FP32", (-1, 3)), TensorSpec("z", "INT64", (-1,))))


def extremes(datatype: str) -> Array:
    """The values of a datatype where a codec goes wrong first, on one axis."""
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        return np.array(TEXTS, dtype=object)
    if datatype == "BOOL":
        return np.array([False, True, True, False])
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        middle = [2**53 + 1, -(2**53) - 1] if datatype == "INT64" else [2**63 + 1] if datatype == "UINT64" else []
        return np.array([limits.min, 0, 1, limits.max, limits.max - 1, *middle], dtype=dtype)
    limits_f = np.finfo(dtype)
    small = float(limits_f.smallest_subnormal)
    values = [0.0, -0.0, 1.5, -0.1, float(limits_f.max), float(limits_f.min), float(limits_f.tiny), small]
    return np.array(values, dtype=dtype)


def same(one: Array, other: Array) -> bool:
    """Bit for bit the same array: shape, dtype, the sign of zero; a NaN is a NaN."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.kind == "f":
        numbers = np.array_equal(one, other, equal_nan=True)
        signs = np.signbit(one[~np.isnan(one)]) == np.signbit(other[~np.isnan(other)])
        return bool(numbers and signs.all())
    return bool(np.array_equal(one, other))


def request(inputs: list[dict[str, Any]], raw: bytes = b"", **members: Any) -> tuple[bytes, int]:
    """An infer request's body and the length of its JSON."""
    text = json.dumps({"inputs": inputs, **members}).encode()
    return text + raw, len(text)


def ask(
    payload: bytes | tuple[bytes, int],
    signature: Signature,
    form: Form | None = None,
    *,
    content_type: str = "",
    json_length: int = -1,
    binary: bool = True,
) -> Decoded:
    """What the table decodes from a payload, or from what `request` made."""
    if isinstance(payload, tuple):
        payload, json_length = payload
    head = InputHead(len(payload), content_type=content_type, json_length=json_length, binary=binary)
    return decode(form or Form(), head, memoryview(payload), signature)


def refused(
    payload: bytes | tuple[bytes, int],
    signature: Signature,
    *words: str,
    form: Form | None = None,
    json_length: int = -1,
    hint: str = "",
) -> None:
    """The payload is bad_input, with a hint that has `hint`, and every word stands in the message."""
    with pytest.raises(EdgedError) as caught:
        ask(payload, signature, form, json_length=json_length)
    fault = caught.value.fault
    assert fault.code == "bad_input"
    assert fault.hint
    assert hint in fault.hint
    for word in words:
        assert word in fault.message


def arrays(datatype: str, *, max_dims: int = 3) -> st.SearchStrategy[Array]:
    """Arrays of a datatype as a model could take them, empty ones and scalars included; no infinities."""
    shapes = hnp.array_shapes(min_dims=0, max_dims=max_dims, min_side=0, max_side=4)
    if datatype == "BYTES":
        text = st.text(st.characters(codec="utf-8"), max_size=8)
        return shapes.flatmap(
            lambda shape: st.lists(text, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
                lambda texts: np.array(texts, dtype=object).reshape(shape)
            )
        )
    elements: dict[str, Any] = {"allow_infinity": False, "allow_nan": True} if datatype.startswith("FP") else {}
    return hnp.arrays(np.dtype(BY_OIP[datatype].numpy), shapes, elements=elements)
