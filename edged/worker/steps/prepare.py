"""From a decoded input to what the model runs on: preprocess, layout, dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edged.config.steps import Preprocess
from edged.tensors import Signature, TensorSpec
from edged.worker.formats.decoded import Array, Decoded, bad_input
from edged.worker.formats.fit import as_datatype, lay_out
from edged.worker.pictures import Picture
from edged.worker.steps.outline import SHAPING
from edged.worker.steps.table import preprocess
from edged.worker.view import View


class Prepared(NamedTuple):
    """What a run takes.

    `rows` along a first axis that all tensors share; 0: they share none, or have no values at all, so that the input
    can only run alone. `view`: where a picture's pixels come from, None for anything else.
    """

    tensors: dict[str, Array]
    rows: int
    view: View | None


def prepare(decoded: Decoded, steps: Sequence[Preprocess], signature: Signature) -> Prepared:
    """The model's tensors. Raises EdgedError bad_input when the input does not fit the model."""
    tensors, view = decoded.tensors, None
    if decoded.plain or decoded.steps:
        tensors, view = _stepped(decoded, steps, signature)
    return _prepared(tensors, view)


def together(values: Sequence[Decoded], steps: Sequence[Preprocess], signature: Signature) -> Prepared:
    """The same for one input of several values, each for a tensor of its own, each through the steps."""
    tensors: dict[str, Array] = {}
    view: View | None = None
    for value in values:
        spec = next((spec for spec in signature.inputs if spec.name == value.stepped), None)
        if spec is None or not value.plain:
            raise bad_input("a value that runs together with others is one tensor", "Send numbers, bytes or a picture.")
        tensors[spec.name], seen = _row(value, value.picture or value.tensors[spec.name], spec, steps)
        view = view or seen
    return _prepared(tensors, view)


def _prepared(tensors: dict[str, Array], view: View | None) -> Prepared:
    rows = -1
    for tensor in tensors.values():
        size = tensor.shape[0] if tensor.ndim else 0
        rows = size if rows in (-1, size) else 0
    if not any(tensor.size for tensor in tensors.values()):
        rows = 0  # [2**40, 0] takes no byte: only rows that have some are as many as a request can bring
    return Prepared(tensors, max(rows, 0), view)


def _stepped(
    decoded: Decoded, steps: Sequence[Preprocess], signature: Signature
) -> tuple[dict[str, Array], View | None]:
    tensors, view = dict(decoded.tensors), None
    if not decoded.stepped and steps:
        raise bad_input(
            "the request asks for `steps`, but preprocess does not say which of the model's inputs it is for",
            "Send the model's own tensors, without `steps`.",
        )
    for spec in signature.inputs:
        if spec.name == decoded.stepped:
            tensors[spec.name], view = _row(decoded, decoded.picture or tensors[spec.name], spec, steps)
        elif spec.name not in tensors:
            raise bad_input(f"missing input: {spec}", "Send all inputs in one Open Inference Protocol request.")
    return tensors, view


def _row(
    decoded: Decoded, given: Array | Picture, spec: TensorSpec, steps: Sequence[Preprocess]
) -> tuple[Array, View | None]:
    """One input through the steps; laid out before them where none of them says how, so that channels are known."""
    sent = None if isinstance(given, Picture) else given.dtype
    if isinstance(given, Picture) or any(isinstance(step, SHAPING) for step in steps):
        array, view = preprocess(steps, given)
        array = lay_out(array, spec, laid_out=True, picture=view is not None)
    else:
        array, view = lay_out(given, spec, laid_out=decoded.laid_out), None
        if steps:
            array, view = preprocess(steps, array, batched=spec.shape[:1] in ((-1,), (1,)))
    return as_datatype(array, spec, numbers=decoded.numbers or array.dtype != sent), view
