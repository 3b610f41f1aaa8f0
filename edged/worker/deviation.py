"""How far an output is from its golden one, element by element. Pure.

|given - golden| <= atol + rtol * |golden|, as numpy.allclose; of whole numbers, which are counts and classes, only
atol counts. NaN is equal to NaN, infinity to infinity of the same sign, strings to the same strings.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import numpy as np

from edged.channel import Compare, Gild
from edged.worker.session import Array

_SHOWN: Final = 40
_LONGEST_NAME: Final = 256  # characters: converters come up with long ones


class Deviation(msgspec.Struct, frozen=True):
    """Of one output. `where`: its worst element; `nonfinite`: elements NaN or infinite where the golden is a number."""

    where: str
    elements: int = 0
    beyond: int = 0
    nonfinite: int = 0
    difference: float = 0.0
    given: str = ""
    golden: str = ""
    misfit: str = ""


def deviation(name: str, given: Array | None, golden: Array, asked: Compare | Gild) -> Deviation:
    """`given` None: the run left the output out."""
    name = name[:_LONGEST_NAME]
    if given is None:
        return Deviation(name, misfit="is left out")
    if given.ndim == golden.ndim + 1 and given.shape[0] == 1:
        given = given[0]
    if given.shape != golden.shape:
        return Deviation(name, misfit=f"has the shape {list(given.shape)}, the golden one {list(golden.shape)}")
    if given.dtype != golden.dtype:
        return Deviation(name, misfit=f"is {given.dtype}, the golden one {golden.dtype}")
    if not given.size:
        return Deviation(name)
    fine, away = _compared(given, golden, asked)
    worst = int(np.argmax(np.where(fine, -1.0, away) if not fine.all() else away))
    place = [int(axis) for axis in np.unravel_index(worst, given.shape)]
    lost = ~np.isfinite(given) & np.isfinite(golden) if given.dtype.kind == "f" else np.zeros(1, bool)
    return Deviation(
        where=f"{name}{place}" if place else name,
        elements=given.size,
        beyond=int(given.size - np.count_nonzero(fine)),
        nonfinite=int(np.count_nonzero(lost)),
        difference=float(away.flat[worst]),
        given=_said(given.flat[worst]),
        golden=_said(golden.flat[worst]),
    )


def _compared(given: Array, golden: Array, asked: Compare | Gild) -> tuple[Array, Array]:
    """Which elements are near enough, and how far each is away: a float64, infinite where that is no number."""
    if given.dtype.kind == "O":
        fine = np.asarray(given == golden, dtype=bool)
        return fine, np.where(fine, 0.0, math.inf)
    if given.dtype.kind != "f":
        away = _apart(given, golden)
        return away <= asked.atol, away
    mine, theirs = given.astype(np.float64), golden.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        away = np.abs(mine - theirs)
        near = np.isfinite(away) & (away <= asked.atol + asked.rtol * np.abs(theirs))
    same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
    return near | same, np.where(same, 0.0, np.where(np.isnan(away), math.inf, away))


def _apart(given: Array, golden: Array) -> Array:
    """The distance of whole numbers: exact up to 2^53, and never 0 where they differ."""
    wide = np.uint64 if given.dtype == np.uint64 else np.int64
    mine, theirs = given.astype(wide), golden.astype(wide)
    # A difference above int64's largest number wraps around, and is right again as uint64.
    apart: Array = (np.maximum(mine, theirs) - np.minimum(mine, theirs)).view(np.uint64).astype(np.float64)
    return apart


def _said(value: Any) -> str:
    text = f"{float(value):.6g}" if isinstance(value, np.floating) else repr(getattr(value, "item", lambda: value)())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
