"""What an ONNX file gives away of how its inputs are to be prepared: its exporter's notes, and the ends of its graph.

Read from the file's bytes (onnx.proto), as graph.py does; the model is not run.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from edged.protobuf import Buffer, fields, message, packed, text
from edged.worker.graph import read_by

_MODEL_PRODUCER, _MODEL_GRAPH, _MODEL_METADATA = 2, 7, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT = 1, 5, 11
_INPUT_NAME: Final = 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP = 1, 2, 4
_TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_INTEGERS, _TENSOR_NAME, _TENSOR_RAW = 2, 4, 5, 8, 9

_NOTES: Final = 64  # of the exporter, and the longest of them: a list of a thousand classes has some 20 kB
_NOTE_BYTES: Final = 256 * 1024
_THROUGH: Final = frozenset({"Cast", "Identity", "Transpose", "Unsqueeze", "Squeeze", "Reshape"})  # change no value

# Numbers that a scale or a zero point is written in: onnx.proto's TensorProto.DataType, as struct says it.
_LETTERS: Final = {1: "f", 2: "B", 3: "b", 4: "H", 5: "h"}
_WHOLE: Final = {2: (0, 255), 3: (-128, 127), 4: (0, 65_535), 5: (-32_768, 32_767)}
_UINT8: Final = 2


class Clues(msgspec.Struct, frozen=True):
    """`metadata`: the exporter's notes. Of each input that it holds for: `spans`, the lowest and the highest number
    that it can have where the first thing done to it is to be quantized, and `takers`, the operators that take it.
    """

    producer: str
    metadata: dict[str, str]
    spans: dict[str, tuple[float, float]]
    takers: dict[str, frozenset[str]]


class _Node(msgspec.Struct, frozen=True):
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read(file: Path) -> Clues:
    """Raises EdgedError not_a_model for what is no ONNX file, and for one that cannot be read."""
    return read_by(_model, file)


def _model(view: Buffer) -> Clues:
    producer, graph = "", None
    metadata: dict[str, str] = {}
    for number, value in fields(view):
        if number == _MODEL_PRODUCER:
            producer = text(value)
        elif number == _MODEL_METADATA and len(metadata) < _NOTES and len(message(value)) <= _NOTE_BYTES:
            entry = dict(fields(message(value)))
            metadata[text(entry.get(_ENTRY_KEY, b""))] = text(entry.get(_ENTRY_VALUE, b""))
        elif number == _MODEL_GRAPH:
            graph = message(value)
    if graph is None:
        raise ValueError("it holds no graph")
    takers = _takers(graph)
    spans = {name: span for name, nodes in takers.items() if (span := _span(graph, nodes)) is not None}
    return Clues(
        producer, metadata, spans, {name: frozenset(node.op for node in found) for name, found in takers.items()}
    )


def _takers(graph: Buffer) -> dict[str, list[_Node]]:
    """Who takes each input, behind what only changes its shape or its type."""
    by_input: dict[str, list[_Node]] = {}
    names = []
    for number, value in fields(graph):
        if number == _GRAPH_INPUT:
            names.append(text(dict(fields(message(value))).get(_INPUT_NAME, b"")))
        elif number == _GRAPH_NODE:
            node = _node(message(value))
            for name in node.inputs:
                by_input.setdefault(name, []).append(node)
    return {name: list(_reached(name, by_input)) for name in names}


def _reached(name: str, by_input: dict[str, list[_Node]]) -> Iterator[_Node]:
    """Each tensor is looked at once, however many ways lead to it."""
    waiting, seen = [name], {name}
    while waiting:
        current = waiting.pop()
        for node in by_input.get(current, ()):
            if node.op in _THROUGH and node.inputs[0] == current:
                waiting += (one for one in node.outputs if one not in seen)
                seen.update(node.outputs)
            else:
                yield node


def _node(view: Buffer) -> _Node:
    op, inputs, outputs = "", [], []
    for number, value in fields(view):
        if number == _NODE_OP:
            op = text(value)
        elif number == _NODE_INPUT:
            inputs.append(text(value))
        elif number == _NODE_OUTPUT:
            outputs.append(text(value))
    return _Node(op, tuple(inputs), tuple(outputs))


def _span(graph: Buffer, takers: list[_Node]) -> tuple[float, float] | None:
    """(lowest, highest) of what QuantizeLinear(x, scale, zero point) leaves as it is, where nobody else takes it."""
    if {node.op for node in takers} != {"QuantizeLinear"} or len({node.inputs[1:] for node in takers}) > 1:
        return None
    _, scale_name, *rest = takers[0].inputs
    wanted = {scale_name, *rest[:1]} - {""}
    held = {}
    for number, value in fields(graph):
        if number == _GRAPH_INITIALIZER:
            tensor = dict(fields(message(value)))
            name = text(tensor.get(_TENSOR_NAME, b""))
            if name in wanted:
                held[name] = _scalar(tensor)
    if held.keys() != wanted or held.get(scale_name) is None:
        return None
    zero = held[rest[0]] if rest and rest[0] else (_UINT8, 0.0)
    scale = held[scale_name]
    if scale is None or zero is None or zero[0] not in _WHOLE:
        return None
    low, high = _WHOLE[zero[0]]
    return (low - zero[1]) * scale[1], (high - zero[1]) * scale[1]


def _scalar(tensor: dict[int, int | Buffer]) -> tuple[int, float] | None:
    """The type and the only number of a tensor; None for several, and for types that none of this is written in."""
    kind = tensor.get(_TENSOR_TYPE)
    letter = _LETTERS.get(kind) if isinstance(kind, int) else None
    if letter is None or not isinstance(kind, int):
        return None
    raw, floats, integers = (tensor.get(field) for field in (_TENSOR_RAW, _TENSOR_FLOATS, _TENSOR_INTEGERS))
    if raw is not None or (floats is not None and letter == "f"):
        data, form = message(raw if raw is not None else floats or 0), struct.Struct(f"<{letter}")
        return (kind, float(form.unpack(data)[0])) if len(data) == form.size else None
    if integers is None:
        return kind, 0.0
    numbers = [integers] if isinstance(integers, int) else list(packed(integers))
    if len(numbers) != 1:
        return None
    number = numbers[0]
    return kind, float(number - 2**64 if number >= 2**63 else number)
