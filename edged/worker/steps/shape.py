"""Steps that change an array's shape: layout, reshape, pad."""

from __future__ import annotations

import math

import numpy as np

from edged.config.steps import Layout, Pad, Reshape
from edged.worker.formats.decoded import Array, bad_input


def reshape(step: Reshape, array: Array, first: int) -> Array:  # noqa: ARG001 - one call for all steps
    """A row of the step's shape; several rows, stacked along a new first axis, where the numbers are so many.

    With a -1 in the shape everything is one row. An array with axes of its own is only split into rows along
    its first axis. Raises EdgedError bad_input when the numbers do not fill whole rows.
    """
    shape, size = step.shape, array.size
    row = math.prod(axis for axis in shape if axis != -1)
    if -1 in shape:
        if row and size % row == 0:
            return array.reshape(shape)
    elif size == row:
        return array.reshape(shape)
    elif size and row and size % row == 0 and (array.ndim <= 1 or array.shape[0] == size // row):
        return array.reshape((size // row, *shape))
    raise bad_input(f"reshape to {list(shape)}: the input has {size} numbers, shape {list(array.shape)}")


def layout(step: Layout, array: Array, first: int) -> Array:  # noqa: ARG001 - one call for all steps
    """The channels moved before height and width (`chw`), or behind them (`hwc`). EdgedError bad_input below 3 axes."""
    if array.ndim < 3:
        raise bad_input(f"layout: {list(array.shape)} has no height, width and channels")
    moved = np.moveaxis(array, -1, -3) if step.order == "chw" else np.moveaxis(array, -3, -1)
    return np.ascontiguousarray(moved)


def pad(step: Pad, array: Array, first: int) -> Array:  # noqa: ARG001 - one call for all steps
    """The last axis `to` long, with `value` at its end. Raises EdgedError bad_input for one that is longer already."""
    found = array.shape[-1] if array.ndim else 1
    if not array.ndim or found > step.to:
        raise bad_input(f"pad to {step.to}: the input has {found} along its last axis, shape {list(array.shape)}")
    if array.dtype.kind != "f" and not _holds(array, float(step.value)):
        raise bad_input(f"pad: {array.dtype} cannot hold {step.value:g}", "Put `cast: float32` before it.")
    padded = np.full((*array.shape[:-1], step.to), step.value, dtype=array.dtype)
    padded[..., :found] = array
    return padded


def _holds(array: Array, value: float) -> bool:
    if array.dtype.kind not in "iu":
        return False
    limits = np.iinfo(array.dtype)
    return value.is_integer() and limits.min <= value <= limits.max
