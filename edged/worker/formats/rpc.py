"""The Open Inference Protocol's infer request and response as protobuf, as gRPC carries them.

Field numbers are those of open_inference_grpc.proto. Tensors come as raw bytes, or as lists of numbers and strings;
they leave as raw bytes, which is what clients read.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from edged import protobuf
from edged.channel import InputHead
from edged.config.steps import Form
from edged.protobuf import Buffer, Walk
from edged.tensors import Signature
from edged.worker.formats import elements
from edged.worker.formats.decoded import Array, Decoded, bad_input
from edged.worker.formats.encode import Output
from edged.worker.formats.oip import (
    check_asked,
    check_classes,
    check_fits,
    check_whole,
    given_twice,
    no_region,
    spec_of,
    stepped_of,
)

_ID, _PARAMETERS, _INPUTS, _OUTPUTS, _RAW = 3, 4, 5, 6, 7
_NAME, _DATATYPE, _SHAPE, _TENSOR_PARAMETERS, _CONTENTS = 1, 2, 3, 4, 5
_OUTPUT_NAME, _OUTPUT_PARAMETERS = 1, 2
_KEY, _VALUE = 1, 2
_ANSWER_MODEL, _ANSWER_VERSION, _ANSWER_ID, _ANSWER_PARAMETERS, _ANSWER_OUTPUTS, _ANSWER_RAW = 1, 2, 3, 4, 5, 6
_BOOL, _STRING = 1, 3  # of InferParameter
_WHOLE: Final = (2, 5)
_REGION: Final = "shared_memory_region"

# Which field of InferTensorContents has a datatype's elements.
_FIELD: Final = {
    "BOOL": 1,
    **dict.fromkeys(("INT8", "INT16", "INT32"), 2),
    "INT64": 3,
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), 4),
    "UINT64": 5,
    "FP32": 6,
    "FP64": 7,
    "BYTES": 8,
}
_BITS: Final = 7  # of a varint's byte
_LONGEST: Final = 10  # bytes of a varint
_MOST_AXES: Final = 32
_MOST: Final = 2**16  # fields that say what there is, at any depth: a tenth of a second
_MOST_ELEMENTS: Final = 2**20  # of a tensor's contents that come one by one: a second, as for so many strings


class _Tensor(msgspec.Struct, eq=False):
    """An input as it is described."""

    name: str = ""
    datatype: str = ""
    shape: list[int] = []
    contents: Buffer | None = None


def decode(form: Form, _head: InputHead, payload: memoryview, signature: Signature) -> Decoded:
    """A request's tensors, checked against the signature. Raises EdgedError bad_input.

    With the request parameter `steps`, the tensor that preprocess works on may have another shape and
    datatype than the model's input.
    """
    try:
        return _decode(form, payload, signature)
    except (ValueError, IndexError) as error:
        raise bad_input(f"the request is no ModelInferRequest: {error}") from error


def _decode(form: Form, payload: memoryview, signature: Signature) -> Decoded:
    named, given, steps = "", [], False
    asked: dict[str, int] = {}
    raw: list[Buffer] = []
    walk = Walk(_MOST)
    for number, value in walk.fields(payload):
        if number == _INPUTS:
            given.append(_tensor(protobuf.message(value), walk))
        elif number == _RAW:
            raw.append(protobuf.message(value))
        elif number == _OUTPUTS:
            wanted, most = _output(protobuf.message(value), walk)
            if wanted in asked:
                raise bad_input(f"output {wanted[:80]} is asked for twice")
            asked[wanted] = most
        elif number == _ID:
            named = str(protobuf.message(value), "utf-8")
        elif number == _PARAMETERS:
            name, parameter = _parameter(protobuf.message(value), walk)
            steps = steps or (name == "steps" and (_BOOL, 1) in parameter)
    stepped = stepped_of(form, signature) if steps else ""
    check_asked(tuple(asked), signature)
    classes = {wanted: most for wanted, most in asked.items() if most}
    for wanted in classes:
        check_classes(wanted, signature)
    return Decoded(
        _tensors(given, raw, signature, stepped),
        plain=False,
        stepped=stepped,
        id=named,
        requested=tuple(asked) or None,
        binary=frozenset(spec.name for spec in signature.outputs),
        steps=steps,
        classes=classes,
    )


def _tensor(message: Buffer, walk: Walk) -> _Tensor:
    found = _Tensor(shape=[])
    for number, value in walk.fields(message):
        if number == _NAME:
            found.name = str(protobuf.message(value), "utf-8")
        elif number == _DATATYPE:
            found.datatype = str(protobuf.message(value), "utf-8")
        elif number == _SHAPE:
            sizes = [value] if isinstance(value, int) else protobuf.packed(value)
            found.shape += itertools.islice(sizes, _MOST_AXES + 1)
        elif number == _CONTENTS:
            found.contents = protobuf.message(value)
        elif number == _TENSOR_PARAMETERS:
            name, parameter = _parameter(protobuf.message(value), walk)
            if name == _REGION:
                raise no_region(f"input {found.name}", _text(parameter))
    if len(found.shape) > _MOST_AXES or any(size >= 2**63 for size in found.shape):
        raise bad_input(f"input {found.name[:80]}: its shape has more than {_MOST_AXES} axes, or a size below 0")
    return found


def _output(message: Buffer, walk: Walk) -> tuple[str, int]:
    """An output's name, and how many of its classes are asked for; 0: its values."""
    wanted, most = "", 0
    for number, value in walk.fields(message):
        if number == _OUTPUT_NAME:
            wanted = str(protobuf.message(value), "utf-8")
        elif number == _OUTPUT_PARAMETERS:
            name, parameter = _parameter(protobuf.message(value), walk)
            if name == "classification":
                most = next((one for kind, one in parameter if kind in _WHOLE and isinstance(one, int)), 0)
            if name == _REGION:
                raise no_region(f"output {wanted}", _text(parameter))
    return wanted, most if most < 2**63 else 0


def _parameter(entry: Buffer, walk: Walk) -> tuple[str, list[tuple[int, int | Buffer]]]:
    """A name, and the fields of its InferParameter."""
    name, parameter = "", []
    for number, value in walk.fields(entry):
        if number == _KEY:
            name = str(protobuf.message(value), "utf-8")
        elif number == _VALUE:
            parameter = list(walk.fields(protobuf.message(value)))
    return name, parameter


def _text(parameter: list[tuple[int, int | Buffer]]) -> str:
    return next((str(one, "utf-8", "replace") for _, one in parameter if not isinstance(one, int)), "")


def _tensors(given: list[_Tensor], raw: list[Buffer], signature: Signature, stepped: str) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    bare = sum(not tensor.contents for tensor in given)
    if raw and len(raw) != bare:
        raise bad_input(f"raw_input_contents has {len(raw)} tensors for {bare} inputs without `contents`")
    left = iter(raw)
    for tensor in given:
        name = tensor.name
        if name in tensors:
            raise given_twice(name)
        check_fits(tensor.datatype, tensor.shape, spec_of(name, signature), stepped)
        if raw and not tensor.contents:
            tensors[name] = elements.from_bytes(next(left), name, tensor.datatype, tensor.shape)
            continue
        if not tensor.contents and elements.count(name, tensor.shape):  # a tensor without elements has no contents
            what = f"input {name} has neither `contents` nor raw_input_contents"
            raise bad_input(what, "One of them has its values.")
        tensors[name] = _from_contents(tensor)
    check_whole(tensors, signature)
    return tensors


# --- lists of elements ------------------------------------------------------------------------------


def _from_contents(tensor: _Tensor) -> Array:
    name, datatype = tensor.name, tensor.datatype
    number = _FIELD.get(datatype)
    if number is None:
        raise bad_input(f"input {name}: {datatype} has no contents", "Send its bytes in raw_input_contents.")
    parts: list[bytes | Buffer] = []
    for found, value in Walk(_MOST_ELEMENTS).fields(tensor.contents or memoryview(b"")):
        if found != number:
            raise bad_input(f"input {name} is {datatype}, its contents are of another type")
        parts.append(protobuf.as_varint(value) if isinstance(value, int) else value)
    if datatype == "BYTES":
        data = b"".join(piece for part in parts for piece in (len(part).to_bytes(4, "little"), part))
    elif datatype in ("FP32", "FP64"):
        data = b"".join(parts)
    else:
        data = _whole(b"".join(parts), name, datatype)
    return elements.from_bytes(memoryview(data), name, datatype, tensor.shape)


def _whole(data: bytes, name: str, datatype: str) -> bytes:
    """Varints as the elements of a datatype. Raises EdgedError where one is out of its range."""
    numbers = _varints(data)
    dtype = elements.DTYPES[datatype]
    if datatype == "BOOL":
        return bytes((numbers != 0).tobytes())
    signed = numbers.view(np.int64) if dtype.kind == "i" else numbers
    bounds = np.iinfo(dtype)
    if signed.size and (signed.min() < bounds.min or signed.max() > bounds.max):
        raise bad_input(f"input {name}: an element is out of {datatype}'s range")
    return bytes(signed.astype(dtype).tobytes())


def _varints(data: bytes) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """All whole numbers of packed fields at once: a loop over them would take a second for a picture."""
    found = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(found < 0x80)
    if found.size and (not ends.size or ends[-1] != found.size - 1):
        raise ValueError("it ends in the middle of an integer")
    starts = np.concatenate((np.zeros(min(ends.size, 1), ends.dtype), ends[:-1] + 1))
    sizes = ends - starts + 1
    longest = int(sizes.max(initial=0))
    if longest > _LONGEST:
        raise ValueError("an integer of more than ten bytes")
    values = np.zeros(ends.size, np.uint64)
    for place in range(longest):
        there = sizes > place
        bits = (found[starts[there] + place] & 0x7F).astype(np.uint64)
        values[there] |= bits << np.uint64(_BITS * place)
    return values


# --- the answer -------------------------------------------------------------------------------------


def encode(
    model: str, version: str, id: str, outputs: Sequence[Output], found: Mapping[str, Any] | None = None
) -> tuple[bytes, bool]:
    """A ModelInferResponse, and whether a value is NaN or infinite. All outputs are raw bytes, whatever they say.

    What postprocess found is a parameter of the response, as JSON.
    """
    put = protobuf.put
    parts = [put(_ANSWER_MODEL, model.encode()), put(_ANSWER_VERSION, version.encode())]
    if id:
        parts.append(put(_ANSWER_ID, id.encode()))
    for name, value in (found or {}).items():
        text = put(_STRING, msgspec.json.encode(value))
        parts.append(put(_ANSWER_PARAMETERS, put(_KEY, name.encode()) + put(_VALUE, text)))
    raw, nonfinite = [], False
    for name, datatype, array, _ in outputs:
        shape = b"".join(map(protobuf.as_varint, array.shape))
        described = put(_NAME, name.encode()) + put(_DATATYPE, datatype.encode())
        parts.append(put(_ANSWER_OUTPUTS, described + put(_SHAPE, shape) if shape else described))
        raw.append(put(_ANSWER_RAW, elements.to_bytes(array, datatype)))
        nonfinite = nonfinite or elements.has_nonfinite(array)
    return b"".join((*parts, *raw)), nonfinite
