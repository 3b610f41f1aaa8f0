"""What a model is likely meant for, from what it takes and gives: the steps that a configuration can begin with.

A guess says that it is one, and why; what the file itself says is told apart. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Final, Literal

import msgspec

from edged.cli.starter import conventions
from edged.cli.starter.conventions import FREE, Frame
from edged.cli.starter.labels import noted
from edged.cli.starter.results import Results, Sample, results_of
from edged.tensors import Signature, TensorSpec
from edged.worker.clues import Clues

_VALUES: Final = 4096  # numbers that somebody would write as JSON
_CROPPED: Final = 256 / 224  # torchvision's: the shorter side, then the middle of it
_USUAL: Final = 224  # pixels of a side that a model leaves open
_SEARCHED: Final = 640  # the same where objects are to be found
_IMAGENET: Final = (1000, 1001)  # classes; TensorFlow's models have one for nothing


Kind = Literal["picture", "values", "raw", "several", "tensors"]


class Likely(msgspec.Struct, frozen=True):
    """What to write. `kind`: picture, values, raw, several (inputs) or tensors, which no step can make.

    `about`: what the input is. `before` and `after`: the steps, each as it is written, and why. `labels` is what the
    file itself has; `classes`, how many names a list of labels would have, 0 for none.
    """

    kind: Kind
    about: str
    before: tuple[str, ...] = ()
    before_why: str = ""
    after: tuple[str, ...] = ()
    after_why: str = ""
    classes: int = 0
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def likely(
    signature: Signature, clues: Clues, answer: Mapping[str, Sample], beside: Collection[int] = frozenset()
) -> Likely:
    """`answer`: what the outputs were for a made-up input, as far as they are known. `beside`: how many names the
    lists of labels beside the file have.
    """
    if len(signature.inputs) != 1:
        return _several(signature)
    (spec,) = signature.inputs
    frame, names = conventions.frame_of(spec), noted(clues.metadata)
    results = results_of(signature, clues, answer, frame, names=len(names), beside=beside)
    picture: tuple[Kind, str] = ("picture", "")
    kind, about = _numbers(spec, clues) if frame is None else picture
    found = Likely(
        kind,
        about,
        after=results.steps,
        after_why=results.why,
        classes=results.classes,
        labels=names if len(names) == results.classes else (),
        notes=results.notes,
    )
    return found if frame is None else _picture(found, spec, frame, clues, results)


def _picture(found: Likely, spec: TensorSpec, frame: Frame, clues: Clues, results: Results) -> Likely:
    """With the steps from a file to the tensor, in their order: the picture's own first."""
    width, height = _size(frame, clues, _SEARCHED if results.detector == "yolov8" else _USUAL)
    picked = conventions.pick(
        spec, clues, frame, imagenet=results.classes in _IMAGENET, detector=results.detector == "boxes"
    )
    steps = [*_resized(width, height, results, clues)]
    if frame.channels == 1:
        steps.append("channels: gray")
    elif picked.convention.bgr:
        steps.append("channels: bgr")
    if not frame.last:
        steps.append("layout: chw")
    steps += picked.convention.steps
    free = "" if frame.width and frame.height else "; the model leaves the size open"
    what = "colours" if frame.channels == 3 else "shades of grey"
    return msgspec.structs.replace(
        found,
        about=f"pictures, {width} x {height} in {what}{free}",
        before=tuple(steps),
        before_why=picked.why if picked.known else f"a guess: {picked.why}",
    )


def _size(frame: Frame, clues: Clues, usual: int) -> tuple[int, int]:
    """Width and height: the model's, else those that Ultralytics notes as [height, width], else the usual."""
    found = re.fullmatch(r"\[(\d{1,4}), ?(\d{1,4})\]", clues.metadata.get("imgsz", "").strip())
    height, width = (max(int(found[1]), 1), max(int(found[2]), 1)) if found else (usual, usual)
    return frame.width or width, frame.height or height


def _resized(width: int, height: int, results: Results, clues: Clues) -> list[str]:
    """The whole picture where objects are searched in it; its middle where it is ImageNet's way; else all of it."""
    if results.detector == "yolov8":
        return [f"resize: {{letterbox: [{width}, {height}]}}"]
    if width == height and results.classes in _IMAGENET:
        side = width if conventions.ultralytics(clues) else round(width * _CROPPED)
        return [f"resize: {{short_side: {side}}}", f"crop: [{width}, {height}]"]
    return [f"resize: [{width}, {height}]"]


def _numbers(spec: TensorSpec, clues: Clues) -> tuple[Kind, str]:
    """What is no picture."""
    if spec.datatype == "BYTES":
        return "tensors", "strings"
    row = spec.shape[1:] if spec.shape[:1] in ((FREE,), (1,)) and len(spec.shape) > 1 else spec.shape
    span = clues.spans.get(spec.name)
    within = f"; the file is quantized for {span[0]:.4g} to {span[1]:.4g}" if span else ""
    if FREE in row:
        return "values", f"numbers; how many, the model leaves open{within}"
    count = math.prod(row)
    shape = f", as {list(row)}" if len(row) > 1 else ""
    counted = f"{count} number{'s' * (count != 1)}{shape}{within}"
    return ("values", counted) if count <= _VALUES else ("raw", counted)


def _several(signature: Signature) -> Likely:
    """Each has a tensor of its own; one whose shape is an output's may be a state."""
    outputs = [spec.shape[1:] for spec in signature.outputs]
    states = [spec.name for spec in signature.inputs[1:] if len(spec.shape) > 1 and spec.shape[1:] in outputs]
    note = "has the shape of an output: a state, perhaps, that whoever asks gives back with the next input"
    count = len(signature.inputs)
    return Likely(
        "several" if count else "tensors", f"{count} inputs", notes=tuple(f"the input {name} {note}" for name in states)
    )
