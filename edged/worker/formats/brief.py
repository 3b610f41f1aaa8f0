"""What `output.format` prediction, value and raw publish in the place of an Open Inference Protocol response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from edged.config.steps import ResultFormat
from edged.tensors import BY_NUMPY
from edged.worker.formats.decoded import Array
from edged.worker.formats.elements import has_nonfinite, to_bytes, to_json

Best = Literal["index", "score"]
Found = Mapping[str, list[Any]]

_ENCODER: Final = msgspec.json.Encoder()
_NOTHING: Final = {"label": None, "index": None, "score": None}


def encode_brief(
    kind: ResultFormat, found: Found | None, output: Array | None, decimals: int | None, best: Best = "index"
) -> tuple[bytes, bool]:
    """One input's result: (payload, whether a value of `output` is NaN or infinite).

    `found` is what postprocess found, `prediction` or `detections`; `output` the one it works on, in any shape and
    dtype, None when the model left it out; `decimals` as in steps.table.rounded_to.

    - prediction: a JSON object of what was found, the best one's members beside it. It ends with `}` and has no
      member of messages.with_parameters, which puts them behind.
    - value: the best label, or else its `best`, which is the score for a distance: that has no classes. Without a
      prediction the number of detections, or the output's numbers. One is plain text, several are a JSON list; NaN
      and infinity are null.
    - raw: the output's bytes, row-major, little-endian, as the protocol's binary data.
    """
    if output is None:
        return (b"{}" if kind == "prediction" else b"null" if kind == "value" else b""), False
    datatype = BY_NUMPY[output.dtype.name].oip
    nonfinite = has_nonfinite(output)
    if kind == "raw":
        return bytes(to_bytes(output, datatype)), nonfinite
    if kind == "prediction":
        return _ENCODER.encode(_flat(found or {})), nonfinite
    return _text(_values(found, best) if found else to_json(output, datatype, decimals)), nonfinite


def _flat(found: Found) -> dict[str, Any]:
    prediction = found.get("prediction")
    if prediction is None or (prediction and isinstance(prediction[0], list)):
        return dict(found)  # boxes, or several rows: none of them is the best of all
    best = prediction[0] if prediction else {}
    return {**_NOTHING, **best, **found}


def _values(found: Found, best: Best) -> list[Any]:
    if (detections := found.get("detections")) is not None:
        several = detections and isinstance(detections[0], list)
        return [len(row) for row in detections] if several else [len(detections)]
    prediction = found.get("prediction") or []
    rows = prediction if prediction and isinstance(prediction[0], list) else [prediction]
    return [_best(row, best) for row in rows]


def _best(row: list[Any], best: Best) -> Any:
    """The label of a row's first entry, or else its `best`; None for an empty row."""
    while row and isinstance(row[0], list):  # places within a row
        row = row[0]
    return row[0].get("label", row[0].get(best)) if row else None


def _text(values: list[Any]) -> bytes:
    """A single text goes without its quotes."""
    if len(values) == 1 and isinstance(values[0], str):
        return values[0].encode()
    return _ENCODER.encode(values[0] if len(values) == 1 else values)
