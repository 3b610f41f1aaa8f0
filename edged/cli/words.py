"""How the commands write for people: columns, sizes, durations, and texts that come from elsewhere; and YAML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z_/]([A-Za-z0-9_./-]|:(?=[A-Za-z0-9/]))*")
_YAML: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})  # words of YAML 1.1


def columns(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """The rows as lines with aligned columns; the columns numbered in `right` end together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def size(count: float | None) -> str:
    """Bytes as people say them: `8.1 MiB`; `-` for None."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3 h 05 min`, `12 d 4 h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def left(left_s: float, most_s: float | None = None) -> str:
    """How much longer a probation lasts: when its time is over only runs are missing, and so it is said."""
    if left_s > 0:
        return f"{duration(max(left_s, 1))} left"
    return "waits for runs" + (f", {duration(most_s)} at most" if most_s is not None else "")


def plain(text: object) -> str:
    """A text from elsewhere on one line, without what a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in str(text)).strip()


def quoted(text: str) -> str:
    """As YAML reads it, whatever is in it; a plain word stays one."""
    if _PLAIN.fullmatch(text) is not None and text.lower() not in _YAML:
        return text
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
