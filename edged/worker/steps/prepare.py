"""From a decoded input to what the model runs on: preprocess, layout, dtype."""

from __future__ import annotations

from collections.abc import Sequence

from edged.config.steps import Preprocess, Reshape
from edged.tensors import Signature, TensorSpec
from edged.worker.formats.decoded import Array, Decoded, bad_input
from edged.worker.formats.fit import as_datatype, lay_out
from edged.worker.steps.table import preprocess


def prepare(decoded: Decoded, steps: Sequence[Preprocess], signature: Signature) -> tuple[dict[str, Array], int]:
    """The model's tensors, and how many rows they have along a first axis that all of them share.

    0 rows: they share none (or it is empty), so that the input can only run alone. Raises EdgedError
    bad_input when the input does not fit the model.
    """
    tensors = decoded.tensors
    if decoded.plain or decoded.steps:
        tensors = _stepped(decoded, steps, signature)
    rows = -1
    for tensor in tensors.values():
        size = tensor.shape[0] if tensor.ndim else 0
        rows = size if rows in (-1, size) else 0
    return tensors, max(rows, 0)


def _stepped(decoded: Decoded, steps: Sequence[Preprocess], signature: Signature) -> dict[str, Array]:
    tensors = dict(decoded.tensors)
    if not decoded.stepped and steps:
        raise bad_input(
            "the request asks for `steps`, but preprocess does not say which of the model's inputs it is for",
            "Send the model's own tensors, without `steps`.",
        )
    for spec in signature.inputs:
        if spec.name == decoded.stepped:
            tensors[spec.name] = _row(decoded, tensors[spec.name], spec, steps)
        elif spec.name not in tensors:
            raise bad_input(f"missing input: {spec}", "Send all inputs in one Open Inference Protocol request.")
    return tensors


def _row(decoded: Decoded, array: Array, spec: TensorSpec, steps: Sequence[Preprocess]) -> Array:
    """One array through the steps; laid out before them where no reshape says how, so that channels are known."""
    sent = array.dtype
    if any(isinstance(step, Reshape) for step in steps):
        array = lay_out(preprocess(steps, array), spec, laid_out=True)
    else:
        array = lay_out(array, spec, laid_out=decoded.laid_out)
        if steps:
            array = preprocess(steps, array, batched=spec.shape[:1] in ((-1,), (1,)))
    return as_datatype(array, spec, numbers=decoded.numbers or array.dtype != sent)
