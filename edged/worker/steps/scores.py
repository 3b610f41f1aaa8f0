"""Steps that turn an output's values into scores: softmax, sigmoid, round.

"The last axis" is the last one after trailing axes of size 1: [1, 1000, 1, 1] has 1000 classes.
"""

from __future__ import annotations

import numpy as np

from edged.config.steps import Round, Sigmoid, Softmax
from edged.worker.formats.decoded import Array


def by_class(array: Array) -> Array:
    """`array` with the classes on its last axis and the rows on the first, where there are both.

    A scalar is one class; one axis alone is the classes of one row.
    """
    end = array.ndim
    while end > 2 and array.shape[end - 1] == 1:
        end -= 1
    return array.reshape(array.shape[:end] or (1,))


def best(rows: Array, most: int | None) -> Array:
    """The indices [rows, most] of the highest scores, highest first; of equals the lower index, NaN last."""
    # Negated for a stable order from high to low; as floats, because unsigned numbers have no negative.
    falling = np.negative(rows if rows.dtype.kind == "f" else rows.astype(np.float64))
    if most == 1 and rows.shape[1]:
        falling[np.isnan(falling)] = np.inf
        return np.asarray(falling.argmin(axis=-1, keepdims=True))
    return np.asarray(np.argsort(falling, axis=-1, kind="stable")[:, :most])


def softmax(step: Softmax, array: Array) -> Array:  # noqa: ARG001 - one call for all steps
    """exp(x) / sum(exp(x)) over the classes, in the array's dtype (float16 is computed as float32)."""
    values = by_class(array)
    wide = values.astype(np.float32) if values.dtype == np.float16 else values
    if not wide.size:
        return array
    # Shifting by the largest changes nothing but keeps exp from overflowing.
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return np.asarray(powers, dtype=array.dtype).reshape(array.shape)


def sigmoid(step: Sigmoid, array: Array) -> Array:  # noqa: ARG001 - one call for all steps
    """1 / (1 + exp(-x)), in the array's dtype; exp(-x) may overflow to infinity, whose result is the right 0."""
    wide = array.astype(np.float32) if array.dtype == np.float16 else array
    return np.asarray(1 / (1 + np.exp(-wide)), dtype=array.dtype)


def rounded(step: Round, array: Array) -> Array:
    """Rounded to n decimals, halves to even; integers stay as they are."""
    return np.asarray(np.round(array, step.n)) if array.dtype.kind == "f" else array
