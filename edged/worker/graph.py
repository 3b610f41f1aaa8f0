"""What an ONNX file consists of, read from its protobuf bytes without the onnx package.

Only tags, lengths and the few fields below are looked at (onnx.proto); weights are skipped. `edged inspect` and
`edged init` run on the box, where onnx (15 MB) is not installed.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from edged.errors import EdgedError
from edged.protobuf import Buffer, fields, message, packed, text

_DEPTH: Final = 32  # subgraphs inside subgraphs

T = TypeVar("T")

# Field numbers of onnx.proto.
_MODEL_PRODUCER, _MODEL_GRAPH, _MODEL_OPSET = 2, 7, 8
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_OP, _NODE_ATTRIBUTE = 4, 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 5, 6, 11
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_LOCATION = 1, 2, 14
_EXTERNAL: Final = 1

_TYPES: Final = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16", 21: "uint4", 22: "int4",
}  # fmt: skip


class Graph(msgspec.Struct, frozen=True):
    """`operators` by type; `weights` are elements by data type; `external`: weights lie in other files."""

    producer: str
    opset: int
    operators: dict[str, int]
    weights: dict[str, int]
    external: bool

    @property
    def quantization(self) -> str:
        """In a person's words: how it is quantized, and in which numbers its weights are."""
        counts = self.operators
        fused = sum(count for name, count in counts.items() if name.startswith("QLinear"))
        integer = sum(count for name, count in counts.items() if name.endswith("Integer"))
        pairs = counts.get("QuantizeLinear", 0), counts.get("DequantizeLinear", 0)
        found = []
        if any(pairs):
            found.append(f"QDQ: {pairs[0]} QuantizeLinear, {pairs[1]} DequantizeLinear")
        if fused:
            found.append(f"QOperator: {fused} QLinear operators")
        if integer:
            dynamic = counts.get("DynamicQuantizeLinear", 0)
            found.append(f"dynamic: {integer} Integer operators, {dynamic} DynamicQuantizeLinear")
        return "; ".join(found) or "none"


def read(file: Path) -> Graph:
    """Raises EdgedError `not_a_model` for what is no ONNX file, and for one that cannot be read."""
    return read_by(_model, file)


def read_by(reader: Callable[[Buffer], T], file: Path) -> T:
    """What `reader` finds in the file's bytes, which are mapped and not copied. Raises as `read`."""
    try:
        if not file.is_file() and file.exists() and not file.is_dir():  # a pipe would wait for somebody to write
            raise EdgedError("not_a_model", f"{file} is no file", "")
        with file.open("rb") as opened:
            # Not closed by hand: the error below may still hold parts of it.
            view = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        return reader(view)
    except OSError as error:
        raise EdgedError("not_a_model", f"{file}: {error.strerror}", "") from error
    except (ValueError, IndexError, RecursionError) as error:
        raise EdgedError("not_a_model", f"{file} is not an ONNX file: {error}") from error


class _Found:
    """What is being counted."""

    def __init__(self) -> None:
        self.operators: Counter[str] = Counter()
        self.weights: Counter[str] = Counter()
        self.external = False


def _model(view: Buffer) -> Graph:
    found, producer, opset, graphs = _Found(), "", 0, 0
    for number, value in fields(view):
        if number == _MODEL_PRODUCER:
            producer = text(value)
        elif number == _MODEL_OPSET:
            opset = max(opset, _opset(message(value)))
        elif number == _MODEL_GRAPH:
            graphs += 1
            _graph(message(value), found, _DEPTH)
    if graphs != 1:
        raise ValueError("it holds no graph")
    return Graph(
        producer, opset, dict(found.operators.most_common()), dict(found.weights.most_common()), found.external
    )


def _opset(view: Buffer) -> int:
    """The version of the standard operators; 0 for those of another domain."""
    values = dict(fields(view))
    domain, version = values.get(_OPSET_DOMAIN, b""), values.get(_OPSET_VERSION, 0)
    return version if isinstance(version, int) and text(domain) in {"", "ai.onnx"} else 0


def _graph(view: Buffer, found: _Found, depth: int) -> None:
    if not depth:
        raise ValueError("its graphs are nested too deep")
    for number, value in fields(view):
        if number == _GRAPH_NODE:
            _node(message(value), found, depth)
        elif number == _GRAPH_INITIALIZER:
            _tensor(message(value), found)


def _node(view: Buffer, found: _Found, depth: int) -> None:
    for number, value in fields(view):
        if number == _NODE_OP:
            found.operators[text(value)] += 1
        elif number == _NODE_ATTRIBUTE:
            for inner, part in fields(message(value)):
                if inner in {_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS}:
                    _graph(message(part), found, depth - 1)
                elif inner == _ATTRIBUTE_TENSOR:
                    _tensor(message(part), found)


def _tensor(view: Buffer, found: _Found) -> None:
    elements, kind = 1, 0
    for number, value in fields(view):
        if number == _TENSOR_DIMS:
            for size in [value] if isinstance(value, int) else packed(value):
                elements *= size
        elif number == _TENSOR_TYPE and isinstance(value, int):
            kind = value
        elif number == _TENSOR_LOCATION:
            found.external |= value == _EXTERNAL
    found.weights[_TYPES.get(kind, f"type {kind}")] += elements
