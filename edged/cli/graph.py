"""What an ONNX file consists of, read from its protobuf bytes without the onnx package.

Only tags, lengths and the few fields below are looked at (onnx.proto, protobuf's encoding guide);
weights are skipped. `edged inspect` runs on the box, where onnx (15 MB) is not installed.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from edged.errors import EdgedError

Buffer = memoryview
_DEPTH: Final = 32  # subgraphs inside subgraphs
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

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
    try:
        with file.open("rb") as opened:
            # Not closed by hand: the error below may still hold parts of it.
            view = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        return _model(view)
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
    for number, value in _fields(view):
        if number == _MODEL_PRODUCER:
            producer = _text(value)
        elif number == _MODEL_OPSET:
            opset = max(opset, _opset(_buffer(value)))
        elif number == _MODEL_GRAPH:
            graphs += 1
            _graph(_buffer(value), found, _DEPTH)
    if graphs != 1:
        raise ValueError("it holds no graph")
    return Graph(
        producer, opset, dict(found.operators.most_common()), dict(found.weights.most_common()), found.external
    )


def _opset(view: Buffer) -> int:
    """The version of the standard operators; 0 for those of another domain."""
    values = dict(_fields(view))
    domain, version = values.get(_OPSET_DOMAIN, b""), values.get(_OPSET_VERSION, 0)
    return version if isinstance(version, int) and _text(domain) in {"", "ai.onnx"} else 0


def _graph(view: Buffer, found: _Found, depth: int) -> None:
    if not depth:
        raise ValueError("its graphs are nested too deep")
    for number, value in _fields(view):
        if number == _GRAPH_NODE:
            _node(_buffer(value), found, depth)
        elif number == _GRAPH_INITIALIZER:
            _tensor(_buffer(value), found)


def _node(view: Buffer, found: _Found, depth: int) -> None:
    for number, value in _fields(view):
        if number == _NODE_OP:
            found.operators[_text(value)] += 1
        elif number == _NODE_ATTRIBUTE:
            for inner, part in _fields(_buffer(value)):
                if inner in {_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS}:
                    _graph(_buffer(part), found, depth - 1)
                elif inner == _ATTRIBUTE_TENSOR:
                    _tensor(_buffer(part), found)


def _tensor(view: Buffer, found: _Found) -> None:
    elements, kind = 1, 0
    for number, value in _fields(view):
        if number == _TENSOR_DIMS:
            for size in [value] if isinstance(value, int) else _packed(value):
                elements *= size
        elif number == _TENSOR_TYPE and isinstance(value, int):
            kind = value
        elif number == _TENSOR_LOCATION:
            found.external |= value == _EXTERNAL
    found.weights[_TYPES.get(kind, f"type {kind}")] += elements


def _fields(view: Buffer) -> Iterator[tuple[int, int | Buffer]]:
    """The fields of one message: (number, value), where a value is an integer or its bytes."""
    at = 0
    while at < len(view):
        tag, at = _varint(view, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field without a number")
        if wire == _VARINT:
            value, at = _varint(view, at)
            yield number, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire, 0)
        if wire == _BYTES:
            size, at = _varint(view, at)
        elif not size:
            raise ValueError(f"a field of the unknown wire type {wire}")
        if size > len(view) - at:
            raise ValueError("it ends in the middle of a field")
        yield number, view[at : at + size]
        at += size


def _varint(view: Buffer, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("an integer of more than ten bytes")


def _packed(view: Buffer) -> Iterator[int]:
    at = 0
    while at < len(view):
        value, at = _varint(view, at)
        yield value


def _buffer(value: int | Buffer) -> Buffer:
    if isinstance(value, int):
        raise ValueError("an integer where a message is expected")  # noqa: TRY004 - the file's fault, not the caller's
    return value


def _text(value: int | Buffer | bytes) -> str:
    if isinstance(value, int):
        raise ValueError("an integer where a text is expected")  # noqa: TRY004 - the file's fault, not the caller's
    return bytes(value).decode("utf-8", "replace")
