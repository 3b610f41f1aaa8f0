"""What every format keeps, whatever bytes come."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.steps import Form
from edged.errors import EdgedError
from edged.tensors import DATATYPES, Signature, TensorSpec
from edged.worker.formats.elements import DTYPES, to_bytes, to_json
from edged.worker.formats.encode import encode_request
from edged.worker.formats.table import FORMATS
from edged.worker.steps.prepare import prepare
from tests.pictures import file, gradient
from tests.unit.worker.formats.samples import ask, extremes, one, request, two
from tests.unit.worker.formats.test_npy import saved

X4 = np.arange(4, dtype=np.float32)

# Payloads that are right, for the model x FP32[-1, 4]; bytes near them go deeper than bytes at random.
RIGHT: dict[str, list[bytes | tuple[bytes, int]]] = {
    "oip": [
        encode_request({"x": X4.reshape(1, 4)}),
        request([{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": X4.tolist()}], id="i"),
        (X4.tobytes(), 0),
    ],
    "values": [b"[1, 2.5, -3, 4]", b"1, 2 3\n4"],
    "raw": [X4.tobytes(), bytes(32)],
    "npy": [saved(X4), saved(X4.reshape(1, 4))],
    "image": [file(gradient(4, 2)), file(gradient(4, 2), "JPEG")],
}

JSONISH = st.text(alphabet='{}[]",:.-+0123456789eE nulltruefasx\\\u00e9', max_size=60).map(str.encode)
FORMS = st.builds(
    Form,
    tensor=st.sampled_from(["", "x", "b"]),
    fields=st.sampled_from([(), ("a",), ("a", "b.c")]),
    missing=st.sampled_from(["reject", "nan"]),
    time=st.sampled_from(["", "t"]),
    dtype=st.sampled_from(["", "int16", "bool", "float64", "object"]),
    columns=st.integers(0, 3),
)
MODELS = st.sampled_from(
    [
        one(),
        two(),
        one("INT8", ()),
        one("BYTES", (-1,)),
        one("BOOL", (-1, -1, 2)),
        Signature((TensorSpec("x", "FP16", (1, 2, 2)),), ()),
    ]
)


def read_or_refuse(name: str, payload: bytes, signature: Signature, form: Form, json_length: int) -> None:
    """Decodes and prepares; whatever comes out fits the signature, whatever does not is bad_input."""
    form = Form(name, form.tensor, form.fields, form.missing, form.time, form.dtype, form.columns)  # type: ignore[arg-type]
    try:
        decoded = ask(payload, signature, form, json_length=json_length)
        tensors, rows, _ = prepare(decoded, (), signature)
    except EdgedError as error:
        assert error.fault.code == "bad_input"
        assert error.fault.message
        return
    assert rows >= 0
    assert set(tensors) == {spec.name for spec in signature.inputs}
    for spec in signature.inputs:
        tensor = tensors[spec.name]
        assert tensor.dtype == DTYPES[spec.datatype]
        assert tensor.flags.aligned
        assert len(tensor.shape) == len(spec.shape)
        assert all(axis in (-1, size) for axis, size in zip(spec.shape, tensor.shape, strict=True))


@pytest.mark.parametrize("name", FORMATS)
@given(payload=st.binary(max_size=80) | JSONISH, signature=MODELS, form=FORMS, json_length=st.integers(-1, 90))
def test_any_bytes_are_read_or_refused(
    name: str, payload: bytes, signature: Signature, form: Form, json_length: int
) -> None:
    read_or_refuse(name, payload, signature, form, json_length)


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
@settings(max_examples=300)
def test_bytes_next_to_right_ones_are_read_or_refused(name: str, data: st.DataObject) -> None:
    chosen = data.draw(st.sampled_from(RIGHT[name]))
    payload, json_length = chosen if isinstance(chosen, tuple) else (chosen, -1)
    changed = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        if not changed:
            break
        at = data.draw(st.integers(0, len(changed) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "insert", "end"]))
        if how == "set":
            changed[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del changed[at : at + data.draw(st.integers(1, 8))]
        elif how == "insert":
            changed[at:at] = data.draw(st.sampled_from([b"9", b"-", b"[", b"null", b"1e999", b"\xff", b"99999999999"]))
        else:
            del changed[at:]
    shift = data.draw(st.integers(-2, 2)) if json_length > 2 else 0
    read_or_refuse(name, bytes(changed), one(), Form(), json_length + shift)


@pytest.mark.parametrize("name", FORMATS)
def test_right_payloads_are_read(name: str) -> None:
    shape = (2, 4, 3) if name == "image" else (4,)
    signature = one(shape=(-1, *shape))
    for payload in RIGHT[name]:
        decoded = ask(payload, signature, Form(format=name))  # type: ignore[arg-type]
        tensors, rows, _ = prepare(decoded, (), signature)
        assert tensors["x"].shape == (rows, *shape)
        assert decoded.plain is (name != "oip")


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"raw"}))  # to raw they are numbers like any other bytes
@pytest.mark.parametrize("deep", [1_000, 100_000])
def test_bombs_of_brackets_are_refused_by_every_format(name: str, deep: int) -> None:
    for bomb in (b"[" * deep, b'{"inputs":' * deep, b"[" * deep + b"]" * deep, b'{"inputs":[' + b"[" * deep):
        with pytest.raises(EdgedError) as caught:
            prepare(ask(bomb, one(), Form(format=name)), (), one())  # type: ignore[arg-type]
        assert caught.value.fault.code == "bad_input"


@pytest.mark.parametrize("datatype", [kind.oip for kind in DATATYPES])
def test_all_formats_agree_on_extremes(datatype: str) -> None:
    array = extremes(datatype)
    signature = one(datatype, (-1,))
    described = {"name": "x", "shape": list(array.shape), "datatype": datatype}
    listed = to_json(array, datatype)
    payloads: dict[str, bytes | tuple[bytes, int]] = {
        "oip": request([{**described, "data": listed}]),
    }
    if datatype != "BYTES":
        payloads |= {"raw": to_bytes(array, datatype), "npy": saved(array), "values": str(listed).lower().encode()}
    for name, payload in payloads.items():
        tensors, *_ = prepare(ask(payload, signature, Form(format=name)), (), signature)  # type: ignore[arg-type]
        found = tensors["x"]
        assert found.dtype == array.dtype
        assert found.tolist() == array.tolist()
        if array.dtype.kind == "f":
            assert [math.copysign(1, value) for value in found] == [math.copysign(1, value) for value in array]
