"""Free axes that a model names: those of one name have one size in every run, which onnxruntime does not check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edged.errors import EdgedError
from edged.tensors import Signature
from edged.worker.formats.decoded import Array

Shared = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]  # name of the axis, and where it is: (input, axis)
_HINT: Final = "`edged inspect` shows the names that the model gives its axes."


def shared_axes(signature: Signature) -> Shared:
    """The names that more than one free axis of the inputs has; for most models none."""
    places: dict[str, list[tuple[str, int]]] = {}
    for spec in signature.inputs:
        for axis, name in enumerate(spec.axes):
            if name and spec.shape[axis] == -1:
                places.setdefault(name, []).append((spec.name, axis))
    return tuple((name, tuple(found)) for name, found in places.items() if len(found) > 1)


def check_shared(feeds: Mapping[str, Array], shared: Shared) -> None:
    """Raises EdgedError bad_input when axes of one name differ in size. `feeds`: the model's own tensors."""
    for name, places in shared:
        (first, axis), *others = places
        size = feeds[first].shape[axis]
        for other, at in others:
            if feeds[other].shape[at] != size:
                raise EdgedError(
                    "bad_input",
                    f"axis {at} of input {other} has {feeds[other].shape[at]}, axis {axis} of {first} has {size}: "
                    f"both are the model's {name!r} and must agree",
                    _HINT,
                )


def batch_names(signature: Signature) -> frozenset[str]:
    """The names of the inputs' free first axes: along them inputs are stacked."""
    return frozenset(spec.axes[0] for spec in signature.inputs if spec.axes and spec.axes[0] and spec.shape[0] == -1)


def stackable(signature: Signature) -> bool:
    """Whether rows of several inputs can be put together along the first axis, and taken apart again.

    Every input and output must have a free first axis; and none may have the batch's name on another axis,
    as a table of distances of all rows from all rows has.
    """
    specs = signature.inputs + signature.outputs
    if not specs or any(spec.shape[:1] != (-1,) or spec.optional for spec in specs):
        return False
    names = batch_names(signature)
    return not any(name in names for spec in specs for name in spec.axes[1:])
