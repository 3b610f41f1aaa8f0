"""A model's pre- or postprocessing: a list of steps, from its nodes to the structs of steps.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, get_args

import msgspec
from msgspec import UNSET

from edged.config import files, keys, nodes, steps
from edged.config.mistakes import Refusal
from edged.config.reader import Reader, suggest


def _table(union: Any) -> dict[str, type[msgspec.Struct]]:
    return {str(step.__struct_config__.tag): step for step in get_args(union)}


TABLES: Final = {"preprocess": _table(steps.Preprocess), "postprocess": _table(steps.Postprocess)}


def chain(reader: Reader, node: nodes.Node, path: str, section: str) -> tuple[Any, ...]:
    """The steps of `section`, without those that cannot be used: the mistakes are noted."""
    if isinstance(node, nodes.Scalar) and node.empty:
        return ()
    if not isinstance(node, nodes.Sequence):
        reader.refuse(
            node.line, path, f"expected a list of steps, found {nodes.describe(node)}", 'begin each step with "- "'
        )
        return ()
    found = [_step(reader, item, f"{path}[{index}]", section) for index, item in enumerate(node.items)]
    return tuple(step for step in found if step is not UNSET)


def _step(reader: Reader, node: nodes.Node, path: str, section: str) -> Any:
    """One step: a word, or one `name: options`. UNSET when it cannot be used."""
    options: nodes.Node | None = None
    if isinstance(node, nodes.Scalar) and not node.empty:
        name = node.text
    elif isinstance(node, nodes.Mapping) and len(node.members) == 1:
        name, member = next(iter(node.members.items()))
        options = member.value
    elif isinstance(node, nodes.Mapping) and node.members:
        reader.refuse(node.line, path, "one item is one step", 'begin each step with "- "')
        return UNSET
    else:
        reader.refuse(node.line, path, f"expected a step, found {nodes.describe(node)}", "such as - softmax")
        return UNSET
    owner = TABLES[section].get(name)
    if owner is None:
        _refuse_unknown(reader, node.line, path, name, section)
        return UNSET
    return _with_options(reader, node.line, f"{path}.{name}", owner, options)


def _refuse_unknown(reader: Reader, line: int, path: str, name: str, section: str) -> None:
    elsewhere = [other for other, table in TABLES.items() if name in table]
    if elsewhere:
        reader.refuse(line, path, f"{name} is no step of {section}", f"it belongs to {elsewhere[0]}")
    else:
        reader.refuse(line, path, f"{name!r} is no step", suggest(name, TABLES[section]))


def _with_options(reader: Reader, line: int, path: str, owner: type[msgspec.Struct], options: nodes.Node | None) -> Any:
    names = owner.__struct_fields__
    if options is None or (isinstance(options, nodes.Scalar) and options.empty):
        if names:
            reader.refuse(line, path, "needs a value", EXAMPLES[owner])
            return UNSET
        return owner()
    if not names:
        reader.refuse(line, path, "takes no value", f"write it alone: - {EXAMPLES[owner]}")
        return UNSET
    if owner in WITH_KEYS and not (owner is steps.Resize and isinstance(options, nodes.Sequence)):
        return _checked(reader, options, path, owner)
    if owner is steps.Labels and isinstance(options, nodes.Scalar):
        return _labels(reader, options, path)
    value = reader.value(options, path, keys.fields(owner)[names[0]])
    if value == () and owner is steps.Labels:
        reader.refuse(line, path, "needs at least one name")
        return UNSET
    return UNSET if value is UNSET else owner(value)


def _checked(reader: Reader, node: nodes.Node, path: str, owner: type[msgspec.Struct]) -> Any:
    """A step that is written with keys, which have to agree with each other."""
    before = len(reader.mistakes)
    step = reader.struct(node, path, owner)
    if step is UNSET or len(reader.mistakes) > before:
        return UNSET
    agree = WITH_KEYS[owner]
    try:
        if agree is not None:
            agree(step)
    except ValueError as error:
        reader.refuse_error(node.line, path, error)
        return UNSET
    return step


def _normalize(step: steps.Normalize) -> None:
    if len(step.std) not in (1, len(step.mean)):
        raise Refusal(f"std has {len(step.std)} numbers and mean {len(step.mean)}", "one for all, or one each")


def _resize(step: steps.Resize) -> None:
    ways = [name for name in ("size", "short_side", "letterbox") if getattr(step, name)]
    if len(ways) != 1:
        raise Refusal("expected one way to resize", "[W, H], {short_side: N} or {letterbox: [W, H]}")
    if step.fill != steps.Resize().fill and not step.letterbox:
        raise Refusal("fill is for letterbox", "take it out")


def _detect(step: steps.Detect) -> None:
    if step.type == "boxes" and not (step.boxes and step.scores):
        raise Refusal("expected the outputs boxes and scores", EXAMPLES[steps.Detect])
    whole = steps.Detect(type="yolov8", score=step.score, iou=step.iou, max=step.max)
    if step.type == "yolov8" and step != whole:
        raise Refusal("yolov8 has boxes and scores in one output, in pixels", "it takes score, iou and max")


# The steps that are written with keys, and what says whether these agree.
WITH_KEYS: Final[dict[type, Callable[[Any], None] | None]] = {
    steps.Normalize: _normalize,
    steps.Resize: _resize,
    steps.Pad: None,
    steps.Detect: _detect,
    steps.Error: None,
}


def _labels(reader: Reader, node: nodes.Scalar, path: str) -> Any:
    """Names from a file beside the configuration."""
    name = reader.value(node, path, str)
    if name is UNSET:
        return UNSET
    try:
        return steps.Labels(files.names(reader.beside(name)))
    except ValueError as error:
        reader.refuse_error(node.line, path, error)
        return UNSET


EXAMPLES: Final[dict[type, str]] = {
    steps.Resize: "resize: {letterbox: [640, 640], fill: 114}",
    steps.Crop: "crop: [224, 224]",
    steps.Channels: "channels: bgr",
    steps.Layout: "layout: chw",
    steps.Pad: "pad: {to: 128, value: 0}",
    steps.Scale: "scale: 0.0625",
    steps.Normalize: "normalize: {mean: [0.5], std: [0.25]}",
    steps.Reshape: "reshape: [1, 8, 8]",
    steps.Cast: "cast: float32",
    steps.UseOutput: "output: NAME",
    steps.Softmax: "softmax",
    steps.Sigmoid: "sigmoid",
    steps.Round: "round: 3",
    steps.Argmax: "argmax",
    steps.TopK: "top_k: 3",
    steps.Labels: "labels: labels.txt",
    steps.Detect: "detect: {boxes: NAME, scores: NAME}",
    steps.Error: "error: {to: INPUT, by: mse}",
    steps.MinScore: "min_score: 0.5",
}
