"""numpy's .npy file: one array with its own dtype and shape (numpy.lib.format, versions 1 to 3)."""

from __future__ import annotations

import math
import re
from typing import Any, Final, Literal

import numpy as np

from edged.channel import InputHead
from edged.config.steps import Form
from edged.tensors import Signature
from edged.worker.formats.decoded import Array, Decoded, bad_input, target
from edged.worker.formats.elements import count

MAGIC: Final = b"\x93NUMPY"
# The header is a Python dict in text; its three members are read by pattern, so that nothing is evaluated.
_DESCR: Final = re.compile(rb"""['"]descr['"]\s*:\s*['"]([<>|=]?[A-Za-z]\d{0,9})['"]\s*[,}]""")
_FORTRAN: Final = re.compile(rb"""['"]fortran_order['"]\s*:\s*(True|False)\s*[,}]""")
_SHAPE: Final = re.compile(rb"""['"]shape['"]\s*:\s*\(((?:\d{1,18}L?, ?)*(?:\d{1,18}L?)?)\)\s*[,}]""")
_HEADER_LIMIT: Final = 10_000  # numpy.lib.format's own
_DTYPES: Final = frozenset(
    f"{kind}{size}" for kind, sizes in (("iu", "1248"), ("f", "248")) for kind in kind for size in sizes
)
_HINT: Final = "numpy.save of an array of numbers or booleans makes such a payload."


def decode(form: Form, head: InputHead, payload: memoryview, signature: Signature) -> Decoded:  # noqa: ARG001 - table.Decode
    """One tensor, in this machine's byte order; raises EdgedError bad_input."""
    spec = target(form, signature)
    tensor = _array(bytes(payload[:12]), payload, spec.name)
    return Decoded({spec.name: tensor}, plain=True, stepped=spec.name)


def _array(start: bytes, payload: memoryview, name: str) -> Array:
    header, offset = _header(start, payload, name)
    descr, fortran, shape = _DESCR.search(header), _FORTRAN.search(header), _SHAPE.search(header)
    if descr is None or fortran is None or shape is None:
        raise bad_input(f"input {name}: the npy header is not that of a plain array: {header[:80]!r}", _HINT)
    dtype = _dtype(descr[1].decode(), name)
    sizes = tuple(int(size) for size in re.findall(rb"\d+", shape[1]))
    return _read(payload[offset:], dtype, sizes, name, order="F" if fortran[1] == b"True" else "C")


def _header(start: bytes, payload: memoryview, name: str) -> tuple[bytes, int]:
    if len(start) < 12 or not start.startswith(MAGIC) or start[6] not in (1, 2, 3):
        raise bad_input(f"input {name}: this is no npy file of version 1, 2 or 3", _HINT)
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(start[8 : 8 + width], "little")
    offset = 8 + width + length
    if length > _HEADER_LIMIT or offset > len(payload):
        raise bad_input(f"input {name}: the npy header says {length} bytes, the payload has {len(payload)}", _HINT)
    return bytes(payload[8 + width : offset]), offset


def _dtype(descr: str, name: str) -> np.dtype[Any]:
    kind = descr.lstrip("<>|=")
    if kind == "b1":
        return np.dtype(bool)
    if kind not in _DTYPES:
        raise bad_input(f"input {name}: an npy array of dtype {descr!r} is not read", _HINT)
    return np.dtype(descr)


def _read(
    data: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], name: str, *, order: Literal["C", "F"]
) -> Array:
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected or len(shape) > 32:
        raise bad_input(f"input {name}: npy {dtype}{list(shape)} takes {expected} bytes, {len(data)} came", _HINT)
    if not expected:
        count(name, shape)
        return np.empty(shape, dtype.newbyteorder("="))
    if dtype.kind == "b":
        octets = np.frombuffer(data, np.uint8)
        if octets.max() > 1:
            raise bad_input(f"input {name}: a boolean is the byte 0 or 1, there is a {octets.max()}", _HINT)
    array = np.frombuffer(data, dtype).reshape(shape, order=order)
    if array.flags.aligned and array.flags.c_contiguous and dtype.isnative:
        return array
    return np.array(array, dtype=dtype.newbyteorder("="), order="C")
