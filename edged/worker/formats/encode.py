"""Tensors to an Open Inference Protocol response, or to a request of the same form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from edged.worker.formats.decoded import Array
from edged.worker.formats.elements import DATATYPE_OF, has_nonfinite, to_bytes, to_json

_ENCODER: Final = msgspec.json.Encoder()
_NOT_ROUNDED: Final[Mapping[str, int]] = {}

Output = tuple[str, str, Array, bool]  # name, datatype, values, whether as raw bytes


def encode(
    model: str,
    version: str,
    id: str,
    outputs: Sequence[Output],
    extra: Mapping[str, Any] | None = None,
    decimals: Mapping[str, int] = _NOT_ROUNDED,
) -> tuple[bytes, int, bool]:
    """A response: (payload, length of its JSON when raw tensors follow, else 0; whether a value is NaN or infinite).

    JSON `data` is flat and row-major; NaN and infinity are null in it. `extra` joins the top level;
    `decimals` are those of steps.table.rounded_to. There
    is never a `parameters` member and the JSON ends with `}`, so that messages.with_parameters can add one.
    """
    described: list[dict[str, Any]] = []
    raw: list[bytes] = []
    has_raw = nonfinite = False
    for name, datatype, array, binary in outputs:
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
        if binary:
            data = to_bytes(array, datatype)
            entry["parameters"] = {"binary_data_size": len(data)}
            raw.append(data)
            has_raw = True
        else:
            entry["data"] = to_json(array, datatype, decimals.get(name))
        described.append(entry)
        nonfinite = nonfinite or has_nonfinite(array)
    response: dict[str, Any] = {"model_name": model, "model_version": version}
    if id:
        response["id"] = id
    response["outputs"] = described
    if extra:
        response.update(extra)
    text = _ENCODER.encode(response)
    return (b"".join((text, *raw)), len(text), nonfinite) if has_raw else (text, 0, nonfinite)


def encode_request(tensors: Mapping[str, Array]) -> tuple[bytes, int]:
    """An infer request that carries `tensors` as raw bytes: (payload, length of its JSON)."""
    described, raw = [], []
    for name, array in tensors.items():
        datatype = DATATYPE_OF[array.dtype]
        data = to_bytes(array, datatype)
        raw.append(data)
        parameters = {"binary_data_size": len(data)}
        described.append({"name": name, "datatype": datatype, "shape": array.shape, "parameters": parameters})
    text = _ENCODER.encode({"inputs": described})
    return b"".join((text, *raw)), len(text)
