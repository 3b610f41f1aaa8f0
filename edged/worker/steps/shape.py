"""Steps that change an array's shape: reshape."""

from __future__ import annotations

import math

from edged.config.steps import Reshape
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
