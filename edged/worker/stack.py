"""Which inputs of a batch share a run: stacking along the first axis, and taking the results apart.

Pure numpy. Inputs are stacked only where every tensor agrees in dtype and in all axes but the first.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Feeds = dict[str, Array]


def shape_key(feeds: Feeds) -> Hashable:
    """Equal for inputs that can be stacked."""
    return tuple((name, array.dtype.str, array.shape[1:]) for name, array in sorted(feeds.items()))


def stack(feeds: Sequence[Feeds]) -> Feeds:
    """One input with the rows of all, in order."""
    if len(feeds) == 1:
        return feeds[0]
    return {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}


def unstack(outputs: Sequence[Array], rows: Sequence[int]) -> list[list[Array]] | None:
    """Each input's part of every output; None when an output does not have a row for each input row."""
    total = sum(rows)
    if any(output.ndim == 0 or output.shape[0] != total for output in outputs):
        return None
    parts, start = [], 0
    for count in rows:
        parts.append([output[start : start + count] for output in outputs])
        start += count
    return parts
