"""The step `error`: how far an output is from the input that it should be, for autoencoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edged.config.steps import Error
from edged.errors import EdgedError
from edged.tensors import TensorSpec
from edged.worker.formats.decoded import Array


def distance(step: Error, output: Array, feeds: Mapping[str, Array]) -> Array:
    """The mean squared (`mse`) or absolute (`mae`) difference of each row, float64 [rows, 1].

    Of a tensor with one axis all is one row. Raises EdgedError model_failed where the two differ in shape.
    """
    given = feeds[step.to]
    if given.shape != output.shape:
        raise EdgedError(
            "model_failed",
            f"error: the output has shape {list(output.shape)}, the input {step.to} {list(given.shape)}",
        )
    difference = np.subtract(output, given, dtype=np.float64)
    by_row = difference.reshape(len(difference) if difference.ndim > 1 else 1, -1)
    powers = np.square(by_row) if step.by == "mse" else np.abs(by_row)
    return np.asarray(powers.mean(axis=1, keepdims=True))


def misfits(step: Error, current: TensorSpec, inputs: Mapping[str, TensorSpec]) -> Iterator[str]:
    """Why the step cannot compare the output with its input, in words."""
    given = inputs.get(step.to)
    if given is None:
        return
    if given.datatype == "BYTES":
        yield f"input {given} has strings, not numbers"
    elif len(given.shape) != len(current.shape) or any(
        -1 not in pair and pair[0] != pair[1] for pair in zip(given.shape, current.shape, strict=True)
    ):
        yield f"output {current} has another shape than input {given}"
