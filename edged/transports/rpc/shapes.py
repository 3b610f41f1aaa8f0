"""The protocol's messages but for inference, as tables: names, field numbers, kinds; and values to bytes and back.

The numbers are those of the Open Inference Protocol's open_inference_grpc.proto, of Triton's grpc_service.proto and
model_config.proto, and of gRPC's health.proto. Everything is named as in JSON, so that edged/oip makes one value
for both protocols. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from edged import protobuf
from edged.protobuf import Buffer, Walk

_MOST: Final = 4096  # fields of a client's message, at any depth, that the loop walks through

TEXT, BOOL, INT, BYTES = "text", "bool", "int", "bytes"


class Field(NamedTuple):
    """`kind`: one of the above, the table of a message inside, or what the words of an enumeration are.

    `many`: a list; of numbers a packed one. `by_name`: a map from a text.
    """

    number: int
    kind: Any
    many: bool = False
    by_name: bool = False


class Words(NamedTuple):
    """An enumeration."""

    of: Mapping[str, int]


Shape = Mapping[str, Field]

_NAMED: Final = {"name": Field(1, TEXT), "version": Field(2, TEXT)}
_TENSOR: Final = {"name": Field(1, TEXT), "datatype": Field(2, TEXT), "shape": Field(3, INT, many=True)}
_TYPES: Final = Words(
    {"TYPE_BOOL": 1, "TYPE_FP16": 10, "TYPE_FP32": 11, "TYPE_FP64": 12, "TYPE_STRING": 13, "TYPE_BF16": 14}
    | {f"TYPE_UINT{8 << power}": 2 + power for power in range(4)}
    | {f"TYPE_INT{8 << power}": 6 + power for power in range(4)}
)
_KINDS: Final = Words({"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3})
_CONFIG: Final = {
    "name": Field(1, TEXT),
    "platform": Field(2, TEXT),
    "version_policy": Field(3, {"specific": Field(3, {"versions": Field(1, INT, many=True)})}),
    "max_batch_size": Field(4, INT),
    "input": Field(
        5,
        {"name": Field(1, TEXT), "data_type": Field(2, _TYPES), "dims": Field(4, INT, many=True)}
        | {"optional": Field(8, BOOL)},
        many=True,
    ),
    "output": Field(
        6, {"name": Field(1, TEXT), "data_type": Field(2, _TYPES), "dims": Field(3, INT, many=True)}, many=True
    ),
    "instance_group": Field(7, {"name": Field(1, TEXT), "count": Field(2, INT), "kind": Field(4, _KINDS)}, many=True),
    "default_model_filename": Field(8, TEXT),
    "dynamic_batching": Field(11, {"max_queue_delay_microseconds": Field(2, INT)}),
    "backend": Field(17, TEXT),
}
_SPENT: Final = {"count": Field(1, INT), "ns": Field(2, INT)}
_COMPUTED: Final = ("compute_input", "compute_infer", "compute_output")
_STATISTICS: Final = {
    **_NAMED,
    "last_inference": Field(3, INT),
    "inference_count": Field(4, INT),
    "execution_count": Field(5, INT),
    "inference_stats": Field(
        6,
        {
            name: Field(number, _SPENT)
            for number, name in enumerate(("success", "fail", "queue", *_COMPUTED, "cache_hit", "cache_miss"), 1)
        },
    ),
    "batch_stats": Field(
        7,
        {"batch_size": Field(1, INT)} | {name: Field(number, _SPENT) for number, name in enumerate(_COMPUTED, 2)},
        many=True,
    ),
    "memory_usage": Field(8, {"type": Field(1, TEXT), "id": Field(2, INT), "byte_size": Field(3, INT)}, many=True),
}
_PARAMETER: Final = {"bool": Field(1, BOOL), "int64": Field(2, INT), "string": Field(3, TEXT), "bytes": Field(4, BYTES)}

NOTHING: Final[Shape] = {}
MODEL: Final[Shape] = _NAMED
INDEX: Final[Shape] = {"repository_name": Field(1, TEXT), "ready": Field(2, BOOL)}
LOAD: Final[Shape] = {
    "repository_name": Field(1, TEXT),
    "model_name": Field(2, TEXT),
    "parameters": Field(3, _PARAMETER, by_name=True),
}

LIVE: Final[Shape] = {"live": Field(1, BOOL)}
READY: Final[Shape] = {"ready": Field(1, BOOL)}
HEALTH: Final[Shape] = {"status": Field(1, INT)}
SERVER: Final[Shape] = {**_NAMED, "extensions": Field(3, TEXT, many=True)}
METADATA: Final[Shape] = {
    "name": Field(1, TEXT),
    "versions": Field(2, TEXT, many=True),
    "platform": Field(3, TEXT),
    "inputs": Field(4, _TENSOR, many=True),
    "outputs": Field(5, _TENSOR, many=True),
}
CONFIG: Final[Shape] = {"config": Field(1, _CONFIG)}
STATISTICS: Final[Shape] = {"model_stats": Field(1, _STATISTICS, many=True)}
REGION: Final[Shape] = {
    "name": Field(1, TEXT),
    "key": Field(2, TEXT),
    "offset": Field(3, INT),
    "byte_size": Field(4, INT),
}
REGIONS: Final[Shape] = {"regions": Field(1, REGION, by_name=True)}
ROWS: Final[Shape] = {"models": Field(1, {**_NAMED, "state": Field(3, TEXT), "reason": Field(4, TEXT)}, many=True)}


def encode(shape: Shape, value: Mapping[str, Any]) -> bytes:
    """A message; members that are empty, or that the table has not, are left out, as protobuf 3 has it."""
    parts = []
    for name, field in shape.items():
        found = value.get(name)
        if not found and not isinstance(found, Mapping):
            continue
        if field.by_name:
            entry = {"key": Field(1, TEXT), "value": Field(2, field.kind)}
            parts += [_one(field._replace(kind=entry), {"key": key, "value": one}) for key, one in found.items()]
        elif field.many and field.kind == INT:
            parts.append(protobuf.put(field.number, b"".join(map(protobuf.as_varint, found))))
        elif field.many:
            parts += [_one(field, one) for one in found]
        else:
            parts.append(_one(field, found))
    return b"".join(parts)


def _one(field: Field, value: Any) -> bytes:
    number, kind = field.number, field.kind
    if kind in (INT, BOOL):
        return protobuf.put_number(number, int(value))
    if isinstance(kind, Words):
        return protobuf.put_number(number, kind.of[value])
    if kind == TEXT:
        return protobuf.put(number, value.encode())
    return protobuf.put(number, bytes(value) if kind == BYTES else encode(kind, value))


def decode(shape: Shape, data: bytes | Buffer) -> dict[str, Any]:
    """A message's members; those that the table has not are skipped. Raises ValueError and IndexError."""
    return _decode(shape, memoryview(data), Walk(_MOST))


def _decode(shape: Shape, data: Buffer, walk: Walk) -> dict[str, Any]:
    names = {field.number: (name, field) for name, field in shape.items()}
    found: dict[str, Any] = {}
    for number, value in walk.fields(data):
        if number not in names:
            continue
        name, field = names[number]
        if field.by_name:
            entry = _decode({"key": Field(1, TEXT), "value": Field(2, field.kind)}, protobuf.message(value), walk)
            found.setdefault(name, {})[entry.get("key", "")] = entry.get("value", {})
        elif field.many:
            found.setdefault(name, []).append(_read(field, value, walk))
        else:
            found[name] = _read(field, value, walk)
    return found


def _read(field: Field, value: int | Buffer, walk: Walk) -> Any:
    if field.kind in (INT, BOOL):
        if not isinstance(value, int):
            raise ValueError("bytes where a number is expected")
        return bool(value) if field.kind == BOOL else value
    data = protobuf.message(value)
    if field.kind == TEXT:
        return str(data, "utf-8")
    return bytes(data) if field.kind == BYTES else _decode(field.kind, data, walk)
