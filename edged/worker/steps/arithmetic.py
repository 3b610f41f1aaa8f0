"""Steps that change an array's values or dtype and keep its shape: scale, normalize, cast.

Every function takes the step, the array and the axis where channels are looked for before the last one: a row's first
one (1 behind a batch axis), or a picture's channels.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from edged.config.steps import Cast, Normalize, Scale
from edged.worker.formats.decoded import Array, bad_input

_FLOAT32: Final = np.dtype(np.float32)
_FLOAT64: Final = np.dtype(np.float64)


def scale(step: Scale, array: Array, first: int) -> Array:  # noqa: ARG001 - one call for all steps
    """x * k, as float32; as float64 for float64 and for integers above 16 bits, which float32 would round."""
    return np.asarray(np.multiply(array, step.k, dtype=_precision(array)))


def normalize(step: Normalize, array: Array, first: int) -> Array:
    """(x - mean) / std, in scale's dtype. One number each, or one per channel.

    Channels are a row's first axis, or its last one where the first has another size (interleaved columns).
    Raises EdgedError bad_input where neither fits.
    """
    dtype = _precision(array)
    mean, std = _per_channel(step.mean, array, first, dtype), _per_channel(step.std, array, first, dtype)
    return np.asarray(np.subtract(array, mean, dtype=dtype) / std)


def cast(step: Cast, array: Array, first: int) -> Array:  # noqa: ARG001 - one call for all steps
    """Another dtype, as numpy's astype does it: floats to integers are cut towards zero.

    Raises EdgedError bad_input for numbers that an integer dtype cannot hold.
    """
    dtype = np.dtype(step.dtype)
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        for extreme in (array.min().item(), array.max().item()):
            if not limits.min <= int(extreme if np.isfinite(extreme) else 2**64) <= limits.max:
                raise bad_input(f"cast: {step.dtype} cannot hold {extreme}", f"It takes {limits.min} .. {limits.max}.")
    return array.astype(dtype)


def _precision(array: Array) -> np.dtype[Any]:
    kind = array.dtype
    if kind == _FLOAT32 or (kind.itemsize <= 2 and kind.kind in "iufb"):
        return _FLOAT32
    return _FLOAT64


def _per_channel(values: tuple[float, ...], array: Array, first: int, dtype: np.dtype[Any]) -> Any:
    """`values` shaped so that they broadcast along the channels."""
    channels = len(values)
    if channels == 1:
        return dtype.type(values[0])
    axis = channel_axis(channels, array.shape, first)
    if axis is None:
        raise bad_input(f"normalize has {channels} channels, the tensor's shape is {list(array.shape[first == 1 :])}")
    shape = [1] * array.ndim
    shape[axis] = channels
    return np.array(values, dtype=dtype).reshape(shape)


def channel_axis(channels: int, shape: tuple[int, ...], first: int) -> int | None:
    """Which axis has so many channels (-1 in `shape`: it may have); None when neither the first nor the last has."""
    for axis in (first, len(shape) - 1):
        if first <= axis < len(shape) and shape[axis] in (channels, -1):
            return axis
    return None
