"""Made-up numbers that look like nothing in particular, the same for the same seed on every box.

Not numpy.random: that is 3 MB in every worker and 20 ms of every start, for numbers that only warm a model up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

# A bijection of 32 bits with little bias: Christopher Wellons, "Prospecting for Hash Functions" (2018), lowbias32.
_STEPS: Final = ((16, 0x7FEB352D), (15, 0x846CA68B))
_LAST_SHIFT: Final = 16
_STREAM: Final = 0x9E3779B9  # 2^32 / the golden ratio: keeps the counters of neighbouring seeds apart


class Noise:
    """A stream of numbers; each call goes on where the one before ended."""

    def __init__(self, seed: int) -> None:
        self._next = seed * _STREAM % 2**32

    def uniform(self, shape: Sequence[int]) -> Array:
        """float32 in [0, 1), with 24 bits each."""
        bits = self._bits(shape)
        bits >>= 8
        return np.multiply(bits, np.float32(2**-24), dtype=np.float32, casting="unsafe")

    def coins(self, shape: Sequence[int]) -> Array:
        """uint32, each 0 or 1."""
        bits = self._bits(shape)
        bits >>= 31
        return bits

    def _bits(self, shape: Sequence[int]) -> Array:
        count = math.prod(shape)
        bits = np.arange(count, dtype=np.uint32)
        bits += np.uint32(self._next)  # arrays wrap around
        self._next = (self._next + count) % 2**32
        for shift, factor in _STEPS:
            bits ^= bits >> shift
            bits *= np.uint32(factor)
        bits ^= bits >> _LAST_SHIFT
        return bits.reshape(shape)
