"""From the array that was sent to the array that the model takes: layout, batch axis, dtype."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from edged.errors import EdgedError
from edged.tensors import BY_OIP, TensorSpec
from edged.worker.formats.decoded import Array, bad_input
from edged.worker.formats.elements import DTYPES

_HINT: Final = "Send as many numbers as the model takes, or bring them to its shape with `reshape` in preprocess."
_PICTURE_HINT: Final = "Bring pictures to the model's shape in preprocess: `resize`, `channels`, `layout: chw`."


def fit(array: Array, spec: TensorSpec, *, laid_out: bool, numbers: bool = False) -> tuple[Array, int]:
    """`array` as the model's input `spec`, and its number of rows (the first axis; 1 without axes).

    See lay_out and as_datatype for the rules; raises EdgedError bad_input.
    """
    array = as_datatype(lay_out(array, spec, laid_out=laid_out), spec, numbers=numbers)
    return array, array.shape[0] if array.ndim else 1


def lay_out(array: Array, spec: TensorSpec, *, laid_out: bool, picture: bool = False) -> Array:
    """`array` in the model's shape.

    One with a layout of its own matches exactly, or lacks the batch axis (a first axis of 1 or free), which
    is added. A flat one is laid out in row-major order: one free axis is inferred; of two, the first is the
    batch axis and becomes 1. A `picture` that does not fit is told what to do about it.
    """
    if not laid_out and array.ndim <= 1:
        return array.reshape(_flat_shape(array.size, spec))
    if _matches(array.shape, spec.shape):
        return array
    if spec.shape and spec.shape[0] in (-1, 1) and _matches(array.shape, spec.shape[1:]):
        return array[np.newaxis]
    raise _misfit(f"shape {list(array.shape)}", spec, _PICTURE_HINT if picture else _HINT)


def _matches(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(a in (-1, b) for a, b in zip(wanted, shape, strict=True))


def _flat_shape(size: int, spec: TensorSpec) -> tuple[int, ...]:
    shape = spec.shape
    free = shape.count(-1)
    if free == 2 and shape[0] == -1:
        shape, free = (1, *shape[1:]), 1
    known = math.prod(axis for axis in shape if axis != -1)
    if free == 0 and size == known:
        return shape
    if free == 1 and known and size and size % known == 0:
        return tuple(size // known if axis == -1 else axis for axis in shape)
    raise _misfit(f"{size} numbers", spec)


def _misfit(found: str, spec: TensorSpec, hint: str = _HINT) -> EdgedError:
    return bad_input(f"input {spec.name} has shape {list(spec.shape)} (-1: any size), the payload has {found}", hint)


def as_datatype(array: Array, spec: TensorSpec, *, numbers: bool) -> Array:
    """`array` in the model's datatype. Only `numbers` (no dtype was sent, or a step made them) are cast.

    Then nothing is lost but digits: whole numbers stay exact or are refused, floats are rounded to the
    model's precision, and what is out of range is refused.
    """
    dtype = DTYPES[spec.datatype]
    if array.dtype == dtype:
        return array
    if not numbers or dtype.kind == "O":
        raise bad_input(
            f"input {spec.name} is {spec.datatype}, the payload is {array.dtype}",
            f"Send {BY_OIP[spec.datatype].numpy}, or add `cast: {BY_OIP[spec.datatype].numpy}` to preprocess.",
        )
    return _floats(array, spec) if dtype.kind == "f" else _whole(array, spec)


def _floats(array: Array, spec: TensorSpec) -> Array:
    try:
        with np.errstate(over="raise"):  # only a finite number that becomes infinite counts
            return array.astype(DTYPES[spec.datatype])
    except FloatingPointError as error:
        raise bad_input(f"input {spec.name}: a number is out of {spec.datatype}'s range") from error


def _whole(array: Array, spec: TensorSpec) -> Array:
    dtype = DTYPES[spec.datatype]
    if array.dtype.kind == "f":
        broken = array[~(np.isfinite(array) & (array == np.trunc(array)))]
        if broken.size:
            raise bad_input(f"input {spec.name} is {spec.datatype}, {broken.flat[0]} is no whole number")
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    # Python compares an int with a float exactly; numpy would round the int first.
    for extreme in (array.min().item(), array.max().item()) if array.size else ():
        if not low <= extreme <= high:
            raise bad_input(f"input {spec.name} is {spec.datatype} ({low} .. {high}), the payload has {extreme}")
    return array.astype(dtype)
