"""What cannot work, told when a model is loaded: steps against its signature."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from edged.config.steps import (
    Argmax,
    Cast,
    Detect,
    Error,
    Form,
    Labels,
    MinScore,
    Normalize,
    Postprocess,
    Preprocess,
    Reshape,
    Round,
    Sigmoid,
    Softmax,
    TopK,
    UseOutput,
)
from edged.tensors import BY_NUMPY, Signature, TensorSpec
from edged.worker.steps import detect, distance, outline
from edged.worker.steps.arithmetic import channel_axis
from edged.worker.steps.misfit import Misfit


def check(
    preprocess: Sequence[Preprocess],
    postprocess: Sequence[Postprocess],
    signature: Signature,
    forms: Sequence[Form] = (),
) -> list[Misfit]:
    """Every step that cannot fit the model, in words; empty when all may.

    Preprocess is checked against the model's only input; with several, which one it is for is known only
    with a payload. `forms` are those of the configured inputs: whether they are pictures, and what they feed.
    """
    found = [*_values(preprocess), *_against_forms(forms, signature)]
    if len(signature.inputs) == 1 and not found:
        found += _against_input(preprocess, signature.inputs[0])
        found = found or list(outline.misfits(preprocess, forms, signature.inputs[0]))
    return found + list(_against_outputs(postprocess, signature))


def _values(steps: Sequence[Preprocess]) -> Iterator[Misfit]:
    """Steps that no tensor fits."""
    for index, step in enumerate(steps):
        where = f"preprocess[{index}]"
        if isinstance(step, Cast) and (step.dtype not in BY_NUMPY or not BY_NUMPY[step.dtype].size):
            yield Misfit(where, f"preprocess cast: there is no dtype {step.dtype!r}{_meant(step.dtype, BY_NUMPY)}")
        elif isinstance(step, Reshape) and (step.shape.count(-1) > 1 or any(n < 1 and n != -1 for n in step.shape)):
            words = f"preprocess reshape: {list(step.shape)} must have sizes above 0, and -1 at most once"
            yield Misfit(where, words)
        elif isinstance(step, Normalize):
            sizes = {len(step.mean), len(step.std)} - {1}
            if 0 in sizes or len(sizes) > 1:
                words = f"preprocess normalize: {len(step.mean)} numbers in mean, {len(step.std)} in std"
                yield Misfit(where, words)
            if 0.0 in step.std:
                yield Misfit(where, "preprocess normalize: std must not be 0")


def _against_forms(forms: Sequence[Form], signature: Signature) -> Iterator[Misfit]:
    """Inputs of a model with several tensors: each topic feeds one, and all of them are fed (RULES 16)."""
    yield from (Misfit("inputs", f"inputs: {words}") for words in _unfed(forms, signature))


def _unfed(forms: Sequence[Form], signature: Signature) -> Iterator[str]:
    names = [spec.name for spec in signature.inputs]
    fed = {form.tensor for form in forms if form.tensor}
    for tensor in sorted(fed.difference(names)):
        yield f"the model has no input {tensor!r}{_meant(tensor, names)}"
    if len(fed) > 1:
        yield from (f"no topic feeds the model's input {name}" for name in names if name not in fed)
    elif len(names) > 1 and any(form.format not in ("auto", "oip") for form in forms):
        yield f"a payload is one tensor, the model has {len(names)}: give {', '.join(names)} a topic each"


def _against_input(steps: Sequence[Preprocess], spec: TensorSpec) -> Iterator[Misfit]:
    if steps and spec.datatype == "BYTES":
        yield Misfit("preprocess", f"preprocess: input {spec} takes strings, which no step can work on")
        return
    first = 1 if spec.shape[:1] in ((-1,), (1,)) else 0
    last = max((index for index, step in enumerate(steps) if isinstance(step, outline.SHAPING)), default=-1)
    for index, step in enumerate(steps):
        where = f"preprocess[{index}]"
        if isinstance(step, Reshape) and index == last and not _reshape_fits(step, spec, first):
            yield Misfit(where, f"preprocess reshape: {list(step.shape)} does not fit input {spec}")
        if isinstance(step, Normalize) and index > last:
            channels = max(len(step.mean), len(step.std))
            if channels > 1 and channel_axis(channels, spec.shape, first) is None:
                yield Misfit(where, f"preprocess normalize: input {spec} does not have {channels} channels")
        if isinstance(step, Cast) and step is steps[-1] and BY_NUMPY[step.dtype].oip != spec.datatype:
            yield Misfit(where, f"preprocess cast: to {step.dtype}, but input {spec} is {spec.datatype}")


def _reshape_fits(step: Reshape, spec: TensorSpec, first: int) -> bool:
    """Whether the step's shape can be a row of the input, or all of it."""
    rows = [spec.shape[first:], spec.shape]
    return any(
        len(row) == len(step.shape) and all(-1 in (a, b) or a == b for a, b in zip(row, step.shape, strict=True))
        for row in rows
    )


def _against_outputs(steps: Sequence[Postprocess], signature: Signature) -> Iterator[Misfit]:
    outputs = {spec.name: spec for spec in signature.outputs}
    current = signature.outputs[0] if signature.outputs else None
    maker = ""  # the first step that makes the prediction
    limit = ""
    found = False  # whether something else than classes of `current` is listed
    for index, step in enumerate(steps):
        tag = str(step.__struct_config__.tag)
        problems: list[str] = []
        if isinstance(step, UseOutput):
            problems += _unknown("output", step.name, outputs)
            current = outputs.get(step.name)
        if maker and isinstance(step, UseOutput | Softmax | Sigmoid):
            problems.append(f"comes after {maker}, which has made the prediction already; put it before")
        if isinstance(step, Argmax | TopK | Detect | Error):
            if limit or (maker and isinstance(step, Detect | Error)):
                problems.append(f"{limit or maker} is there too; keep one of them")
            limit = tag
        if isinstance(step, Argmax | TopK | Detect | Error | Labels | MinScore):
            maker = maker or tag
        if isinstance(step, Detect | Error):
            found = True
            problems += _found(step, current, signature, steps)
        elif current is not None and not isinstance(step, UseOutput) and not found:
            problems += _against_output(step, current)
        yield from (Misfit(f"postprocess[{index}]", f"postprocess {tag}: {words}") for words in problems)


def _found(
    step: Detect | Error, current: TensorSpec | None, signature: Signature, steps: Sequence[Postprocess]
) -> Iterator[str]:
    """What is wrong with a step that lists something else than the classes of an output, and with its labels."""
    outputs = {spec.name: spec for spec in signature.outputs}
    names = [step.boxes, step.scores] if isinstance(step, Detect) and step.type == "boxes" else []
    read = [outputs[name] for name in names if name in outputs] if names else [current] if current else []
    if problems := [reason for spec in read for reason in _no_numbers(spec)]:
        yield from problems
        return
    if isinstance(step, Error):
        inputs = {spec.name: spec for spec in signature.inputs}
        yield from _unknown("input", step.to, inputs)
        yield from distance.misfits(step, current, inputs) if current is not None else ()
        return
    for name in names:
        yield from _unknown("output", name, outputs)
    yield from detect.misfits(step, current, outputs)
    classes = detect.classes_of(step, current, outputs) or 0
    for labels in (one for one in steps if isinstance(one, Labels)):
        if len(labels.names) < classes:
            yield f"{classes} classes, and labels has {len(labels.names)} names"


def _unknown(kind: str, name: str, known: Mapping[str, TensorSpec]) -> Iterator[str]:
    if name not in known:
        yield f"the model has no {kind} {name!r}{_meant(name, known)}"


def _no_numbers(spec: TensorSpec) -> Iterator[str]:
    """Why there are not always numbers in an output."""
    if spec.datatype == "BYTES":
        yield f"output {spec} has {'items' if spec.json else 'strings'}, not numbers"
    elif spec.optional:
        yield f"output {spec} may be left out by a run"


def _against_output(step: Postprocess, spec: TensorSpec) -> Iterator[str]:
    if problems := list(_no_numbers(spec)):
        yield from problems
        return
    if isinstance(step, Softmax | Sigmoid) and not spec.datatype.startswith("FP"):
        yield f"output {spec} has no floating-point numbers"
    if isinstance(step, Round | Sigmoid):
        return
    if spec.shape == (-1,):
        yield f"output {spec} has one number a row, no classes"
        return
    classes = _classes(spec.shape)
    if isinstance(step, TopK) and (step.n < 1 or (classes is not None and step.n > classes)):
        yield f"{step.n} of output {spec}, which has {classes or 'its'} classes"
    if isinstance(step, Labels) and classes is not None and len(step.names) < classes:
        yield f"{len(step.names)} names for the {classes} classes of output {spec}"


def _classes(shape: tuple[int, ...]) -> int | None:
    """How many classes an output of this shape has, as scores.by_class sees it; None when that is not fixed."""
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    last = math.prod(shape[-1:])
    return None if last == -1 else last


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
