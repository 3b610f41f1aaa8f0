"""Which of a run's outputs an answer shows, and which of them as classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edged.worker.formats.decoded import Array, Decoded
from edged.worker.formats.elements import DATATYPE_OF
from edged.worker.formats.encode import Output
from edged.worker.steps.scores import best

Names = Mapping[str, Sequence[str]]


def shown(decoded: Decoded, outputs: Mapping[str, Array], names: Sequence[str], labels: Names) -> list[Output]:
    """The outputs that were asked for, else all of `names`, in their order; an optional one may be absent.

    `labels`: by output, what its classes are called. Raises MemoryError.
    """
    found: list[Output] = []
    for name in decoded.requested or names:
        if name in outputs:
            array, most = outputs[name], decoded.classes.get(name, 0)
            if most:
                array = classes(array, most, labels.get(name, ()))
            found.append((name, DATATYPE_OF[array.dtype], array, name in decoded.binary))
    return found


def classes(array: Array, most: int, labels: Sequence[str]) -> Array:
    """The `most` highest values as Triton's classification extension has them: texts `value:index[:label]`.

    Of equals the lower index is first, NaN last. From numbers [rows, ..] to [rows, n], from [n] or a scalar to [n];
    axes behind the rows count as one.
    """
    rows, width = (array.shape[0], math.prod(array.shape[1:])) if array.ndim > 1 else (1, array.size)
    values = array.reshape(rows, width)
    order = best(values, most)
    picked = values[np.arange(rows)[:, np.newaxis], order]
    form = "%f:%d" if values.dtype.kind == "f" else "%d:%d"
    found = np.empty(order.shape, dtype=object)
    for at, index in np.ndenumerate(order):
        label = f":{labels[index]}" if index < len(labels) else ""
        found[at] = form % (picked[at], index) + label
    return found if array.ndim > 1 else found[0]
