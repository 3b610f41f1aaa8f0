"""The prepared form of a model as both sides know it: the worker writes these files, the daemon keeps them."""

from __future__ import annotations

from typing import Final

PREPARED_MODEL: Final = "model.onnx"
PREPARED_WEIGHTS: Final = "weights.bin"  # the model names it: the two stay together
_SPARE: Final = 16 * 2**20


def largest_prepared(size: int) -> int:
    """Bytes that each file of the form may have, for a model file of `size` bytes.

    Matrices are held plain and packed, twice their size (measured: 2.0x for MatMul, 1.0x for Conv).
    """
    return 4 * size + _SPARE
