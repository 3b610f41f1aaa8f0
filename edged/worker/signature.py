"""What onnxruntime says of a model's inputs and outputs, in edged's words; what edged does not carry is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from edged.errors import EdgedError
from edged.tensors import BY_ONNX, Signature, TensorSpec

# onnxruntime's words for a list of maps (a ZipMap's), a list of tensors, and a tensor that may be absent.
_MAPS: Final = re.compile(r"seq\(map\((?:string|int64),tensor\((?:float|double|int64|string)\)\)\)")
_TENSORS: Final = re.compile(r"seq\((tensor\(\w+\))\)")
_OPTIONAL: Final = re.compile(r"optional\((tensor\(\w+\))\)")
_CARRIED: Final = (
    "Inputs and outputs may be tensors of bool, whole numbers of 8 to 64 bits, float16, float, double or string; "
    "outputs also sequences of maps or tensors. Cast others in the graph; give the members of a map as tensors."
)


def described(inputs: Iterable[Any], outputs: Iterable[Any]) -> Signature:
    """The signature of onnxruntime's NodeArgs. Raises EdgedError unsupported.

    Inputs are tensors. Outputs may be sequences of maps or of tensors too (`json`), and tensors that a run may
    leave out (`optional`).
    """
    return Signature(tuple(map(_input, inputs)), tuple(map(_output, outputs)))


def _input(argument: Any) -> TensorSpec:
    return _tensor(argument, str(argument.type))


def _output(argument: Any) -> TensorSpec:
    kind = str(argument.type)
    items = _TENSORS.fullmatch(kind)
    if _MAPS.fullmatch(kind) or (items is not None and items[1] in BY_ONNX):
        return TensorSpec(str(argument.name), "BYTES", (-1,), json=True)
    maybe = _OPTIONAL.fullmatch(kind)
    return _tensor(argument, kind) if maybe is None else _tensor(argument, maybe[1], optional=True)


def _tensor(argument: Any, kind: str, *, optional: bool = False) -> TensorSpec:
    """What onnxruntime calls `kind`; its shape has a number, a name or None for each axis."""
    datatype = BY_ONNX.get(kind)
    if datatype is None:
        raise EdgedError("unsupported", f"{argument.name} is a {argument.type}, which edged does not carry", _CARRIED)
    shape = tuple(axis if isinstance(axis, int) and axis >= 0 else -1 for axis in argument.shape)
    axes = tuple(axis if isinstance(axis, str) else "" for axis in argument.shape)
    return TensorSpec(str(argument.name), datatype.oip, shape, axes if any(axes) else (), optional=optional)
