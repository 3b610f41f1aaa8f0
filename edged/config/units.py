"""Quantities people write in a configuration: `60s`, `64MiB`, `1%`, `3x`."""

from __future__ import annotations

import re
from typing import Final

_DURATION: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE: Final = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class Duration(float):
    """Seconds, written as a number with a unit: `500ms`, `60s`, `1h`; a bare 0 is allowed."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        return cls(_quantity(value, _DURATION, "a duration such as 500ms, 60s or 1h"))


class Size(int):
    """Bytes, written as a number with a unit: `64KiB`, `16MiB`; a bare 0 is allowed."""

    @classmethod
    def parse(cls, value: object) -> Size:
        return cls(_quantity(value, _SIZE, "a size such as 64KiB, 16MiB or 1GB"))


class Percent(float):
    """A ratio from 0 to 1, written `1%`."""

    @classmethod
    def parse(cls, value: object) -> Percent:
        ratio = _quantity(value, {"%": 0.01}, "a percentage such as 1%")
        if ratio > 1:
            raise ValueError("expected at most 100%")
        return cls(ratio)


class Factor(float):
    """How many times as much, written `3x`."""

    @classmethod
    def parse(cls, value: object) -> Factor:
        return cls(_quantity(value, {"x": 1.0}, "a factor such as 3x"))


def _quantity(value: object, units: dict[str, float] | dict[str, int], expected: str) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%]+)", value) if isinstance(value, str) else None
    if found is None or found[2] not in units:
        raise ValueError(f"expected {expected}")
    return float(found[1]) * units[found[2]]
