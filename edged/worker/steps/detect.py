"""The step that makes `detections`: candidates out of a detector's outputs, one box for each object, in pixels sent.

It only collects what is wanted; `find` does the work on all rows together, `entries` puts one row's boxes where they
lie in the picture that its sender has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from edged.config.steps import Detect
from edged.errors import EdgedError
from edged.tensors import TensorSpec
from edged.worker.formats.decoded import Array
from edged.worker.view import View

Entry = dict[str, Any]  # {"label"?, "index", "score", "box": [x1, y1, x2, y2]}

_CANDIDATES: Final = 10_000  # best scores that are compared with each other; a detector of 640 x 640 has 8,400 boxes
_FRACTION: Final = 8.0  # a box may reach beyond the picture, but not this far
_DECIMALS: Final = 2  # of a pixel


class Search(msgspec.Struct, frozen=True, eq=False):
    """What to look for: boxes [rows, n, 4] and scores [rows, n, classes]; what is found is named and rounded."""

    step: Detect
    boxes: Array
    scores: Array
    names: tuple[str, ...] = ()
    min_score: float | None = None
    decimals: int | None = None


class Found(msgspec.Struct, frozen=True, eq=False):
    """One row's objects, best first: boxes [n, 4] (x1, y1, x2, y2) in the picture that the model saw."""

    search: Search
    boxes: Array
    scores: Array
    indices: Array


def search(step: Detect, outputs: Mapping[str, Array], current: str) -> Search:
    """Takes the step's outputs apart; yolov8 has all in one, which is `current`. EdgedError model_failed for others."""
    if step.type == "yolov8":
        whole = outputs[current]
        if whole.ndim != 3 or whole.shape[1] < 5:
            raise _no_detector(f"output {current} has shape {list(whole.shape)}, yolov8's is [rows, 4 + classes, n]")
        by_box = whole.transpose(0, 2, 1)
        return Search(step, by_box[..., :4], by_box[..., 4:])
    boxes, scores = outputs[step.boxes], outputs[step.scores]
    shapes = f"boxes {list(boxes.shape)} and scores {list(scores.shape)}"
    if boxes.ndim < 2 or boxes.shape[-1] != 4:
        raise _no_detector(f"{shapes}: a box has four numbers along its last axis")
    if boxes.ndim == 2:
        boxes, scores = boxes[np.newaxis], scores[np.newaxis]
    rows = boxes.shape[0]
    boxes = boxes.reshape(rows, boxes.size // (4 * rows) if rows else 0, 4)
    found = boxes.shape[1]
    if scores.ndim == 3 and scores.shape[1] != found and scores.shape[2] == found:
        scores = scores.transpose(0, 2, 1)
    if scores.shape[:2] != (rows, found) or scores.ndim > 3:
        raise _no_detector(f"{shapes} do not belong together")
    return Search(step, boxes, scores.reshape(rows, found, -1) if found else scores.reshape(rows, 0, 1))


def _no_detector(reason: str) -> EdgedError:
    return EdgedError("model_failed", f"detect: {reason}", "Compare the step with `edged inspect` of the model.")


def find(wanted: Search) -> list[Found]:
    """One item per row. Raises EdgedError bad_config for boxes that are no fractions where the step says so."""
    return [_row(wanted, boxes, scores) for boxes, scores in zip(wanted.boxes, wanted.scores, strict=True)]


def _row(wanted: Search, boxes: Array, scores: Array) -> Found:
    step = wanted.step
    if step.background is not None and step.background < scores.shape[1]:
        scores = scores.copy()
        scores[:, step.background] = -np.inf if scores.dtype.kind == "f" else np.iinfo(scores.dtype).min
    indices = scores.argmax(axis=1) if scores.size else np.zeros(0, np.int64)
    best = scores[np.arange(len(indices)), indices]
    chosen = np.flatnonzero(best >= max(step.score, wanted.min_score or 0.0))  # a NaN is not chosen
    chosen = chosen[np.argsort(-best[chosen].astype(np.float64), kind="stable")[:_CANDIDATES]]
    chosen = chosen[np.isfinite(boxes[chosen]).all(axis=1)]
    corners = _corners(boxes[chosen].astype(np.float64), step)
    wide = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    chosen, corners = chosen[wide], corners[wide]
    kept = suppress(corners, indices[chosen], iou=step.iou, most=step.max)
    return Found(wanted, corners[kept], best[chosen[kept]], indices[chosen[kept]])


def _corners(boxes: Array, step: Detect) -> Array:
    """(x1, y1, x2, y2) of boxes in the step's format."""
    if step.format == "cxcywh" or step.type == "yolov8":
        centre, half = boxes[:, :2], boxes[:, 2:] / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
    if step.fractions and boxes.size and (largest := np.abs(boxes).max()) > _FRACTION:
        raise EdgedError(
            "bad_config",
            f"detect: a box reaches to {largest:.4g}, which is no fraction of the picture",
            "Write `unit: pixels` for a model whose boxes are in pixels of its input.",
        )
    return boxes


def suppress(boxes: Array, classes: Array, *, iou: float, most: int) -> list[int]:
    """Non-maximum suppression: which of `boxes` [n, 4], best first, to keep.

    At most so many, and none that overlaps a better one of its class by more than `iou` (intersection over union).
    """
    left = np.arange(len(boxes))
    kept: list[int] = []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while left.size and len(kept) < most:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[left, :2])
        high = np.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        apart = shared <= iou * (areas[best] + areas[left] - shared)
        left = left[apart | (classes[left] != classes[best])]
    return kept


def entries(found: Found, view: View | None) -> list[Entry]:
    """A row's detections as they are answered: boxes in pixels of the sent picture, inside it, to 1/100.

    Without a `view` nobody knows of a picture, and the boxes are as the model gave them.
    """
    names, decimals, boxes = found.search.names, found.search.decimals, found.boxes
    if view is not None:
        if found.search.step.fractions:
            boxes = boxes * np.array([view.width, view.height] * 2)
        boxes = np.round(view.undo(boxes), _DECIMALS)
    listed: list[Entry] = []
    for box, score, index in zip(boxes.tolist(), found.scores.tolist(), found.indices.tolist(), strict=True):
        if not (box[2] > box[0] and box[3] > box[1]):  # all of it was outside
            continue
        entry: Entry = {"label": names[index]} if index < len(names) else {}
        listed.append(
            entry | {"index": index, "score": score if decimals is None else round(score, decimals), "box": box}
        )
    return listed


def misfits(step: Detect, current: TensorSpec | None, outputs: Mapping[str, TensorSpec]) -> Iterator[str]:
    """Why the step cannot work on outputs of these shapes, in words."""
    names = (current.name,) if step.type == "yolov8" and current is not None else (step.boxes, step.scores)
    for spec in (outputs[name] for name in names if name in outputs):
        if spec.datatype == "BOOL":
            yield f"output {spec} has no numbers"
    if step.type == "yolov8":
        if current is not None and (len(current.shape) != 3 or -1 < current.shape[1] < 5):
            yield f"output {current} is not yolov8's [rows, 4 + classes, n]"
        return
    boxes, scores = outputs.get(step.boxes), outputs.get(step.scores)
    if boxes is not None and (len(boxes.shape) < 2 or boxes.shape[-1] not in (4, -1)):
        yield f"boxes: output {boxes} does not have four numbers along its last axis"
    elif boxes is not None and scores is not None and not _together(boxes.shape, scores.shape):
        yield f"outputs {boxes} and {scores} do not belong together"
    classes = classes_of(step, current, outputs)
    if step.background is not None and classes is not None and step.background >= classes:
        yield f"background: {step.background} of {classes} classes"


def _together(boxes: tuple[int, ...], scores: tuple[int, ...]) -> bool:
    """Whether there may be a score for each box."""
    if len(boxes) == 2:
        boxes, scores = (1, *boxes), (1, *scores)
    count = boxes[1] if len(boxes) == 3 else -1
    return len(scores) in (2, 3) and (count == -1 or any(size in (count, -1) for size in scores[1:]))


def classes_of(step: Detect, current: TensorSpec | None, outputs: Mapping[str, TensorSpec]) -> int | None:
    """How many classes the outputs tell apart; None when that is not fixed."""
    if step.type == "yolov8":
        return (
            current.shape[1] - 4 if current is not None and len(current.shape) == 3 and current.shape[1] > 4 else None
        )
    boxes, scores = outputs.get(step.boxes), outputs.get(step.scores)
    if boxes is None or scores is None:
        return None
    if len(scores.shape) < len(boxes.shape):
        return 1
    count = boxes.shape[1] if len(boxes.shape) == 3 else -1
    if len(boxes.shape) != 3 or len(scores.shape) != 3 or count == -1 or scores.shape[1] != count:
        return None
    return None if scores.shape[2] == -1 else scores.shape[2]
