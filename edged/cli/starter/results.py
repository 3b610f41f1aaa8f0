"""What a model's outputs are likely meant for: objects in pictures, classes, or nothing that a step could make of them.

By their names and shapes, and by what they were for a made-up input. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from edged.cli.starter import conventions
from edged.cli.starter.conventions import FREE, Frame
from edged.cli.words import quoted
from edged.tensors import Signature, TensorSpec
from edged.worker.clues import Clues

_CLASSES: Final = re.compile(r"logit|prob|class|softmax|label|score", re.IGNORECASE)
_BOXES: Final = re.compile(r"box|loc", re.IGNORECASE)
_VECTORS: Final = frozenset({64, 96, 128, 192, 256, 384, 512, 768, 1024, 1280, 1536, 2048})  # sizes of embeddings
_STRIDES: Final = (8, 16, 32)  # of YOLOv8's grids
_CORNERS: Final = 0.95  # of its boxes
_BOX: Final = 4  # numbers
_END_TO_END: Final = 6  # numbers of each box, of an export that has chosen its boxes already: [rows, 300, 6]
_ROUNDING: Final = 1e-4
_SUM: Final = 0.02  # of probabilities of an int8 model


class Sample(msgspec.Struct, frozen=True):
    """What one output was for a made-up input."""

    shape: tuple[int, ...]
    data: list[Any]


class Results(msgspec.Struct, frozen=True):
    """What the outputs are: the steps, and why."""

    steps: tuple[str, ...] = ()
    why: str = ""
    classes: int = 0
    detector: Literal["", "boxes", "yolov8"] = ""
    notes: tuple[str, ...] = ()


def results_of(
    signature: Signature,
    clues: Clues,
    answer: Mapping[str, Sample],
    frame: Frame | None,
    *,
    names: int,
    beside: Collection[int],
) -> Results:
    """Objects, where it is pictures that come in; else classes; else nothing that a step could make of them.

    `names`: how many names of classes the file has; `beside`: how many the lists beside it have.
    """
    if frame is not None and (found := _objects(signature, clues, answer, frame, names)) is not None:
        return found
    for index, spec in enumerate(signature.outputs):
        classes = _classes(spec)
        if not classes:
            continue
        sample = answer.get(spec.name)
        chances = sample is not None and _adds_up(sample, classes)
        alone = frame is not None and len(signature.outputs) == 1 and classes not in _VECTORS
        if not (chances or classes == names or classes in beside or _CLASSES.search(spec.name) or alone):
            continue
        apart = sample is not None and not chances and _within(sample.data, 0.0, 1.0)
        steps = [f"output: {quoted(spec.name)}"] * (index > 0) + ["softmax"] * (not chances and not apart)
        why = "probabilities" if chances else "scores from 0 to 1" if apart else "scores"
        most = f"top_k: {min(3, classes)}"
        return Results((*steps, most), f"{classes} {why} in {spec.name}", classes)
    return Results()


def _classes(spec: TensorSpec) -> int:
    """How many classes an output has; 0 where they are none."""
    if not spec.datatype.startswith("FP") or spec.json or spec.optional:
        return 0
    shape = spec.shape
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape[1] if len(shape) == 2 and shape[0] in (1, FREE) and shape[1] >= 2 else 0


def _objects(
    signature: Signature, clues: Clues, answer: Mapping[str, Sample], frame: Frame, names: int
) -> Results | None:
    task = clues.metadata.get("task", "") if conventions.ultralytics(clues) else ""
    first = signature.outputs[0] if signature.outputs else None
    if first is not None and len(first.shape) == 3 and task in ("", "detect") and _is_yolo(first, clues, frame):
        classes = max(first.shape[1] - _BOX, 0) or names
        return Results(
            ("detect: {type: yolov8}",), f"objects in pictures: {first.name} is laid out as YOLOv8's", classes, "yolov8"
        )
    if task and task not in ("detect", "classify"):
        return Results(notes=(f"no step of edged makes anything of a model for {task}: its outputs come as they are",))
    pairs = [
        (boxes, scores)
        for boxes in signature.outputs
        for scores in signature.outputs
        if boxes != scores and _go_together(boxes, scores)
    ]
    if not pairs:
        return None
    boxes, scores = max(pairs, key=lambda pair: bool(_BOXES.search(pair[0].name)))
    return _boxes(boxes, scores, answer)


def _is_yolo(spec: TensorSpec, clues: Clues, frame: Frame) -> bool:
    """[rows, 4 + classes, places], as many places as the grids of its strides have."""
    _, lines, places = spec.shape
    if FREE in (lines, places):
        return conventions.ultralytics(clues) and clues.metadata.get("task") == "detect" and places != _END_TO_END
    grids = sum((frame.width // stride) * (frame.height // stride) for stride in _STRIDES)
    return lines > _BOX and places == grids > lines


def _go_together(boxes: TensorSpec, scores: TensorSpec) -> bool:
    """Boxes [rows, n, 4] and scores [rows, n, classes] or [rows, n]."""
    if not (boxes.datatype.startswith("FP") and scores.datatype.startswith("FP")):
        return False
    return (
        len(boxes.shape) == 3 and boxes.shape[2] == _BOX and boxes.shape[1] == _at(scores, 1) and len(scores.shape) <= 3
    )


def _at(spec: TensorSpec, axis: int) -> int | None:
    return spec.shape[axis] if len(spec.shape) > axis else None


def _boxes(boxes: TensorSpec, scores: TensorSpec, answer: Mapping[str, Sample]) -> Results:
    classes = _at(scores, 2) or 1
    seen, said = answer.get(boxes.name), answer.get(scores.name)
    if said is not None and not _within(said.data, 0.0, 1.0):
        note = f"the scores in {scores.name} are no probabilities yet: docs/formats.md has what `detect` takes"
        return Results(detector="boxes", notes=(note,))
    options = [f"boxes: {quoted(boxes.name)}", f"scores: {quoted(scores.name)}"]
    if seen is not None and not _are_corners(seen):
        options.append("format: cxcywh")
    if seen is not None and not _within(seen.data, -2.0, 2.0):
        options.append("unit: pixels")
    if said is not None and classes > 1 and _adds_up(said, classes):
        options.append("background: 0")
    return Results(
        (f"detect: {{{', '.join(options)}}}",),
        f"objects in pictures: {boxes.name} and {scores.name} belong together",
        max(classes, 0),
        "boxes",
    )


def _are_corners(sample: Sample) -> bool:
    """Whether nearly all of [x1, y1, x2, y2] have an area, which is chance where they are centre, width and height."""
    data = sample.data
    found = [data[at + 2] >= data[at] and data[at + 3] >= data[at + 1] for at in range(0, len(data) - 3, 4)]
    return bool(found) and sum(found) >= _CORNERS * len(found)


def _adds_up(sample: Sample, classes: int) -> bool:
    """Whether each row of `classes` numbers is a list of probabilities."""
    data = sample.data
    rows = [data[at : at + classes] for at in range(0, len(data), classes)]
    return _within(data, 0.0, 1.0) and bool(rows) and all(abs(sum(row) - 1.0) < _SUM for row in rows)


def _within(data: Sequence[Any], low: float, high: float) -> bool:
    return all(isinstance(value, int | float) and low - _ROUNDING <= value <= high + _ROUNDING for value in data)
