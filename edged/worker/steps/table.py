"""Which function does which step, and how a list of steps runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np

from edged.config.steps import (
    Cast,
    Channels,
    Crop,
    Detect,
    Error,
    Labels,
    Layout,
    Normalize,
    Pad,
    Postprocess,
    Preprocess,
    Reshape,
    Resize,
    Round,
    Scale,
    Sigmoid,
    Softmax,
    UseOutput,
)
from edged.tensors import Signature
from edged.worker.formats.decoded import Array
from edged.worker.pictures import Picture
from edged.worker.steps.arithmetic import cast, normalize, scale
from edged.worker.steps.detect import Search, entries, find, search
from edged.worker.steps.distance import distance
from edged.worker.steps.picture import channels, crop, resize
from edged.worker.steps.ranking import RANKINGS, Ranking, rank, round_scores
from edged.worker.steps.scores import rounded, sigmoid, softmax
from edged.worker.steps.shape import layout, pad, reshape
from edged.worker.view import View

PICTURES: Final[dict[type, Callable[[Any, Picture], Picture]]] = {Resize: resize, Crop: crop, Channels: channels}
ARRAYS: Final[dict[type, Callable[[Any, Array, int], Array]]] = {
    Layout: layout,
    Scale: scale,
    Normalize: normalize,
    Cast: cast,
    Reshape: reshape,
    Pad: pad,
}
SCORES: Final[dict[type, Callable[[Any, Array], Array]]] = {Softmax: softmax, Sigmoid: sigmoid, Round: rounded}


def preprocess(
    steps: Sequence[Preprocess], given: Array | Picture, *, batched: bool = False
) -> tuple[Array, View | None]:
    """What the steps make of `given`: one row, or rows along the first axis when `batched`; and a picture's view.

    A reshape may find several rows in it; the result then has the batch axis in front of the step's shape.
    Raises EdgedError bad_input when a step does not fit.
    """
    first, order = int(batched), ""  # first: where channels are looked for, before the last axis
    view: View | None = None
    with np.errstate(all="ignore"):  # infinity and NaN go on as values
        for step in steps:
            kind = type(step)
            if kind in PICTURES:
                given = PICTURES[kind](step, given if isinstance(given, Picture) else Picture.of(given))
                continue
            if isinstance(given, Picture):
                view, order, first = given.view, "hwc", 2
                given = given.array()
            if isinstance(step, Layout):
                if step.order == order:  # a picture is hwc already
                    continue
                given, order = layout(step, given, first), step.order
                first = given.ndim - (3 if order == "chw" else 1)
                continue
            given = ARRAYS[kind](step, given, first)
            if isinstance(step, Reshape):
                first, order = given.ndim - len(step.shape), ""
    if isinstance(given, Picture):
        return given.array(), given.view
    return given, view


class Result(msgspec.Struct, frozen=True, eq=False):
    """What the steps found: an item a row, for the answer's member `key`."""

    key: Literal["prediction", "detections"]
    rows: list[Any]

    def of(self, start: int, count: int, view: View | None, feeds: Mapping[str, Array]) -> dict[str, list[Any]]:
        """One input's part, from row `start` on: the only row's entries, or a list of them for several rows.

        `feeds` are its own tensors: boxes are in pixels of those where no `view` knows of a picture.
        """
        rows = self.rows[start : start + count]
        if self.key == "detections":
            view = view or View.of(feeds.values())
            rows = [entries(row, view) for row in rows]
        return {self.key: rows[0] if len(rows) == 1 else rows}


def postprocess(
    steps: Sequence[Postprocess], outputs: dict[str, Array], feeds: Mapping[str, Array]
) -> tuple[dict[str, Array], Result | None]:
    """The outputs of one input, or of several that are stacked, after the steps; and what these found.

    `outputs` has the model's first output first, and at least those of outputs_used; it is not changed. `feeds` are
    the inputs of that run. Raises EdgedError where an output is not what a step takes it for.
    """
    if not steps:
        return outputs, None
    outputs = dict(outputs)
    name = next(iter(outputs))
    wanted: Ranking | Search | None = None
    decimals: dict[str, int] = {}
    with np.errstate(all="ignore"):  # a model's NaN and infinity go on as values
        for step in steps:
            kind = type(step)
            if isinstance(step, UseOutput):
                name = step.name
            elif isinstance(step, Detect):
                wanted = search(step, outputs, name)
            elif isinstance(step, Error):
                wanted = Ranking(distance(step, outputs[name], feeds))
            elif kind in SCORES:
                outputs[name] = SCORES[kind](step, outputs[name])
                decimals.pop(name, None)
                if isinstance(step, Round):
                    decimals[name] = step.n
                    wanted = wanted and round_scores(step, wanted)
            else:
                wanted = RANKINGS[kind](step, wanted or Ranking(outputs[name], decimals=decimals.get(name)))
        if isinstance(wanted, Search):
            return outputs, Result("detections", list(find(wanted)))
        return outputs, None if wanted is None else Result("prediction", rank(wanted))


def outputs_used(steps: Sequence[Postprocess], signature: Signature) -> tuple[str, ...]:
    """The outputs that the steps read, to be run even where a request does not ask for them."""
    used: list[str] = []
    name = signature.outputs[0].name if signature.outputs else ""
    for step in steps:
        if isinstance(step, UseOutput):
            name = step.name
            continue
        read = (step.boxes, step.scores) if isinstance(step, Detect) and step.type == "boxes" else (name,)
        used += [one for one in read if one not in used]
    return tuple(used)


def output_shown(steps: Sequence[Postprocess], signature: Signature) -> str:
    """The one output that stands for a result: what the last `output` step names, else the first."""
    named = [step.name for step in steps if isinstance(step, UseOutput)]
    return named[-1] if named else signature.outputs[0].name if signature.outputs else ""


def labels_shown(steps: Sequence[Postprocess], signature: Signature) -> dict[str, tuple[str, ...]]:
    """What the classes of an output are called: of the one that stands for a result, where `labels` names them."""
    named = [step.names for step in steps if isinstance(step, Labels)]
    return {output_shown(steps, signature): named[-1]} if named else {}


def value_shown(steps: Sequence[Postprocess]) -> Literal["index", "score"]:
    """What of the best entry without a label stands for it: of a distance, which has no classes, the score."""
    return "score" if any(isinstance(step, Error) for step in steps) else "index"


def rounded_to(steps: Sequence[Postprocess], signature: Signature) -> dict[str, int]:
    """The outputs that a `round` step rounds, and to how many decimals: what `encode` shows them with."""
    decimals: dict[str, int] = {}
    name = signature.outputs[0].name if signature.outputs else ""
    for step in steps:
        if isinstance(step, UseOutput):
            name = step.name
        elif isinstance(step, Round):
            decimals[name] = step.n
        elif type(step) in SCORES:
            decimals.pop(name, None)
    return decimals
