"""The elements of one tensor: JSON numbers and strings, or little-endian bytes, to numpy and back."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from edged.errors import EdgedError
from edged.tensors import DATATYPES
from edged.worker.formats.decoded import Array, bad_input

DTYPES: Final[dict[str, np.dtype[Any]]] = {kind.oip: np.dtype(kind.numpy) for kind in DATATYPES}
DATATYPE_OF: Final[dict[np.dtype[Any], str]] = {dtype: datatype for datatype, dtype in DTYPES.items()}

# From here on a number rounds to infinity (IEEE 754, ties to even): half a step above the largest one.
_END_FP32: Final = 2.0**128 - 2.0**103
_END_FP16: Final = 65520.0

# What one JSON element of a datatype may be. msgspec's bounds end at int64: numpy guards UINT64's upper one.
_ELEMENT: Final[dict[str, Any]] = {
    "BOOL": bool,
    "UINT8": Annotated[int, Meta(ge=0, le=2**8 - 1)],
    "UINT16": Annotated[int, Meta(ge=0, le=2**16 - 1)],
    "UINT32": Annotated[int, Meta(ge=0, le=2**32 - 1)],
    "UINT64": Annotated[int, Meta(ge=0)],
    "INT8": Annotated[int, Meta(ge=-(2**7), le=2**7 - 1)],
    "INT16": Annotated[int, Meta(ge=-(2**15), le=2**15 - 1)],
    "INT32": Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)],
    "INT64": Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    "FP16": Annotated[float, Meta(gt=-_END_FP16, lt=_END_FP16)],
    "FP32": Annotated[float, Meta(gt=-_END_FP32, lt=_END_FP32)],
    "FP64": float,
    "BYTES": str,
}
_FLAT: Final = {name: msgspec.json.Decoder(list[element]) for name, element in _ELEMENT.items()}  # type: ignore[valid-type]
_ANY: Final = msgspec.json.Decoder()
_ITEM: Final = msgspec.json.Encoder()
_WORTH_COUNTING: Final = 64 * 1024
_MOST_EMPTY: Final = 2**40
_FEW: Final = 4096  # elements; below, looking through bytes is 4 us cheaper than a reduction


def count(name: str, shape: Sequence[int]) -> int:
    """How many elements a shape has, in exact arithmetic; refuses an empty one that no array can have."""
    elements = math.prod(shape)
    if not elements and math.prod(size for size in shape if size) > _MOST_EMPTY:
        raise bad_input(f"input {name}: the shape {list(shape)} is too large")
    return elements


def from_json(raw: msgspec.Raw, name: str, datatype: str, shape: Sequence[int]) -> Array:
    """A tensor from its `data`: flat in row-major order, or nested exactly as `shape`.

    null is NaN in floating-point tensors; whole numbers may be written 3.0. Raises EdgedError bad_input.
    """
    elements = count(name, shape)
    if len(raw) > _WORTH_COUNTING and datatype != "BYTES":
        _check_commas(raw, name, shape, elements)
    try:
        values = _FLAT[datatype].decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        values = _patiently(raw, name, datatype, shape)
    if len(values) != elements:
        raise bad_input(f"input {name}: its shape {list(shape)} takes {elements} elements, `data` has {len(values)}")
    try:
        return np.array(values, dtype=DTYPES[datatype]).reshape(shape)
    except OverflowError as error:
        raise bad_input(f"input {name}: an element is above {datatype}'s largest value") from error


def _check_commas(raw: msgspec.Raw, name: str, shape: Sequence[int], elements: int) -> None:
    """Refuses a list longer than its shape before it takes 16 times its size in memory."""
    found = bytes(raw).count(b",") + 1
    if elements and found > elements:
        raise bad_input(f"input {name}: its shape {list(shape)} takes {elements} elements, `data` has {found}")


def _patiently(raw: msgspec.Raw, name: str, datatype: str, shape: Sequence[int]) -> list[Any]:
    """What the flat decoder refused: nested lists, a bare scalar, null, whole floats; else the reason."""
    try:
        values = _flatten(_ANY.decode(raw), name, shape)
    except RecursionError as error:
        raise bad_input(f"input {name}: `data` is nested deeper than its shape {list(shape)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_input(f"input {name}: `data` cannot be read: {error}") from error
    element = _ELEMENT[datatype]
    kind = DTYPES[datatype].kind
    if kind in "iu":
        values = [int(value) if type(value) is float and value.is_integer() else value for value in values]
    elif kind == "f":
        element = element | None
    try:
        if kind == "f":  # msgspec 0.18 cannot refuse an integer above the largest double
            values = [float(value) if type(value) is int else value for value in values]
        return msgspec.convert(values, list[element])  # type: ignore[valid-type]
    except OverflowError as error:
        raise bad_input(f"input {name}: an element is out of {datatype}'s range") from error
    except msgspec.ValidationError as error:
        raise _refused(values, name, datatype, str(error)) from error


def _refused(values: list[Any], name: str, datatype: str, reason: str) -> EdgedError:
    found = re.search(r"\$\[(\d+)\]", reason)
    if found is None:
        return bad_input(f"input {name} is {datatype}: {reason}")
    value = msgspec.json.encode(values[int(found[1])]).decode()[:40]
    return bad_input(f"input {name} is {datatype}: element {found[1]} is {value}: {reason.partition(' - at')[0]}")


def _flatten(value: Any, name: str, shape: Sequence[int]) -> list[Any]:
    if not isinstance(value, list):
        if shape:
            raise bad_input(f"input {name}: `data` is no list, its shape is {list(shape)}")
        return [value]
    if list not in map(type, value):
        return value
    level, axes = value, tuple(shape)
    fits = bool(axes) and len(level) == axes[0]
    for size in axes[1:]:
        if not fits:
            break
        fits = all(type(inner) is list and len(inner) == size for inner in level)
        level = list(itertools.chain.from_iterable(level)) if fits else level
    if not fits or list in map(type, level):
        raise bad_input(
            f"input {name}: `data` is not nested as its shape {list(shape)}",
            "Nest the lists exactly as the shape says, or send one flat list in row-major order.",
        )
    return level


def from_bytes(data: memoryview, name: str, datatype: str, shape: Sequence[int]) -> Array:
    """A tensor from its raw little-endian bytes, without a copy where they are aligned; the array is read-only.

    BOOL is one byte, 0 or 1; BYTES is a uint32 length and that much UTF-8 per element.
    Raises EdgedError bad_input when `data` has not exactly the tensor's size.
    """
    elements = count(name, shape)
    if datatype == "BYTES":
        return np.array(_strings(data, name, elements), dtype=object).reshape(shape)
    dtype = DTYPES[datatype]
    expected = elements * dtype.itemsize
    if len(data) != expected:
        raise bad_input(f"input {name}: {datatype}{list(shape)} takes {expected} bytes, {len(data)} came")
    if datatype == "BOOL":
        octets = np.ndarray(shape, np.uint8, data)
        if octets.size and octets.max() > 1:
            raise bad_input(f"input {name}: BOOL takes the bytes 0 and 1, there is a {octets.max()}")
        return octets.view(dtype)
    array: Array = np.ndarray(shape, dtype, data)
    return array if array.flags.aligned else array.copy()


def _strings(data: memoryview, name: str, elements: int) -> list[str]:
    end = len(data)
    if elements * 4 > end:
        raise bad_input(f"input {name}: {elements} BYTES elements take at least {elements * 4} bytes, {end} came")
    strings, start = [], 0
    for index in range(elements):
        size = int.from_bytes(data[start : start + 4], "little")
        if end - start < 4 or size > end - start - 4:
            raise bad_input(f"input {name}: element {index} ends after the data, which has {end} bytes")
        try:
            strings.append(str(data[start + 4 : start + 4 + size], "utf-8"))
        except UnicodeDecodeError as error:
            raise bad_input(f"input {name}: element {index} is not UTF-8, as a model's strings are") from error
        start += 4 + size
    if start != end:
        raise bad_input(f"input {name}: {end - start} bytes are left after its {elements} elements")
    return strings


def to_bytes(array: Array, datatype: str) -> bytes:
    """The raw little-endian form that from_bytes reads; items of a sequence (maps, arrays) as JSON text."""
    if datatype != "BYTES":
        return array.tobytes()
    parts: list[bytes] = []
    for value in array.ravel().tolist():
        data = value.encode("utf-8", "replace") if isinstance(value, str) else _ITEM.encode(_json_item(value))
        parts += (len(data).to_bytes(4, "little"), data)
    return b"".join(parts)


def to_json(array: Array, datatype: str, decimals: int | None = None) -> list[Any]:
    """The flat list that JSON carries. A float32 is given as the double of the same value.

    With `decimals`, to which the values have been rounded, it is the double nearest to that decimal number:
    0.9 and not 0.8999999761581421, which is the same float32. Lone surrogates, which JSON cannot carry, become
    `?`. Items of a sequence are JSON values themselves: a map is an object, an array nested lists.
    """
    if decimals is not None and array.dtype.kind == "f":
        array = np.round(array.astype(np.float64), decimals)
    values: list[Any] = array.ravel().tolist()
    return [_json_item(value) for value in values] if datatype == "BYTES" else values


def has_nonfinite(array: Array) -> bool:
    """Whether a value is NaN or infinite, in the items of a sequence too."""
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        return b"\0" in finite.tobytes() if array.size < _FEW else not finite.all()
    if array.dtype.kind != "O":
        return False
    return any(_nonfinite_item(value) for value in array.ravel().tolist() if not isinstance(value, str))


def _nonfinite_item(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return has_nonfinite(value)
    return isinstance(value, dict) and any(isinstance(one, float) and not math.isfinite(one) for one in value.values())


def _json_item(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return value.tolist() if isinstance(value, np.ndarray) else value
