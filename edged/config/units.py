"""Quantities people write in a configuration: `60s`, `64MiB`, `1%`, `3x`; read and spelled."""

from __future__ import annotations

import math
import re
from typing import Final

from edged.config.mistakes import Refusal

_DURATION: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_RATE: Final = {"/s": 1.0, "/min": 1 / 60, "/m": 1 / 60, "/h": 1 / 3600}
_SIZE: Final = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
# Bounded digits: no text can become infinity, or a number that takes long to make.
_QUANTITY: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z%/]*)")


class Duration(float):
    """Seconds, written as a number with a unit: `500ms`, `60s`, `1h`; a bare 0 is allowed."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        return cls(_quantity(value, _DURATION, "a duration such as 500ms, 60s or 1h", usual="s"))


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
            raise Refusal("expected at most 100%")
        return cls(ratio)


class Factor(float):
    """How many times as much, written `3x`."""

    @classmethod
    def parse(cls, value: object) -> Factor:
        return cls(_quantity(value, {"x": 1.0}, "a factor such as 3x", usual="x"))


class Rate(float):
    """How often a second, written `50/s`, `10/min` or `6/h`."""

    @classmethod
    def parse(cls, value: object) -> Rate:
        return cls(_quantity(value, _RATE, "a rate such as 50/s or 10/min", usual="/s"))


def spelled(value: object) -> str:
    """How a person writes `value` in YAML: `30s`, `256MiB`, `1%`, `3x`, `true`."""
    match value:
        case bool():
            return "true" if value else "false"
        case Duration():
            return _largest(value, {"us": 1e-6, "ms": 1e-3, "s": 1.0, "h": 3600.0, "d": 86400.0})
        case Size():
            return _largest(value, {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30})
        case Rate():
            return f"{value:g}/s" if value >= 1 else f"{value * 60:g}/min" if value >= 1 / 60 else f"{value * 3600:g}/h"
        case Percent():
            return f"{value * 100:g}%"
        case Factor():
            return f"{value:g}x"
        case _:
            return str(value)


def _largest(value: float, units: dict[str, float] | dict[str, int]) -> str:
    """`value` in the largest unit that leaves a whole number, else in the smallest."""
    if value == 0:
        return "0"
    for unit, worth in reversed(units.items()):
        count = round(value / worth)
        if count >= 1 and math.isclose(count * worth, value):
            return f"{count}{unit}"
    unit, worth = next(iter(units.items()))
    return f"{value / worth:.9f}".rstrip("0").rstrip(".") + unit


def pattern(kind: type) -> str:
    """The regular expression of a quantity's text, for those who check without us."""
    words = {Duration: tuple(_DURATION), Size: tuple(_SIZE), Percent: ("%",), Factor: ("x",), Rate: tuple(_RATE)}[kind]
    return rf"^[0-9]{{1,15}}(\.[0-9]{{1,9}})?\s*({'|'.join(words)})$|^0+(\.0+)?$"


def _quantity(value: object, units: dict[str, float] | dict[str, int], expected: str, usual: str = "") -> float:
    found = _QUANTITY.fullmatch(str(value))
    if found is None:
        raise Refusal(f"expected {expected}")
    number, unit = found.groups()
    if not unit and float(number) == 0:
        return 0
    if unit not in units:
        near = [known for known in units if known.lower() in (unit.lower(), f"{unit.lower()}ib")]
        meant = near[0] if unit and near else usual if not unit else ""
        raise Refusal(f"expected {expected}", f"did you mean {number}{meant}?" if meant else "")
    return float(number) * units[unit]
