"""What has become of an order, as lines: one a box, redrawn on a terminal, else one for each change."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Container
from typing import TYPE_CHECKING, Final

from edged.cli.words import left, plain, size

if TYPE_CHECKING:
    from edged.fleet.outcome import Line, Outcome

_BAR: Final = 20
_APART: Final = 20  # boxes that are named where nothing is to be done about them


class Lines:
    """Shows each outcome as it comes; `end` leaves the last one standing."""

    def __init__(self) -> None:
        self._terminal: Final = sys.stdout.isatty()
        self._drawn = 0
        self._said: dict[str, str] = {}

    def show(self, outcome: Outcome) -> None:
        if self._terminal:
            self._redraw([line(one) for one in outcome.lines if one.fate != "apart"])
            return
        for one in outcome.lines:
            if one.fate != "apart" and self._said.get(one.box) != _gist(one):
                self._said[one.box] = _gist(one)
                print(line(one, bar=False), flush=True)

    def end(self, outcome: Outcome) -> None:
        """The last word on each box, and those apart."""
        if self._terminal:
            self._redraw([])
        said = {one.box for one in outcome.lines if self._said.get(one.box) == _gist(one) and not one.hint}
        print("\n".join(last(outcome, said)), flush=True)

    def _redraw(self, lines: list[str]) -> None:
        height = max(2, shutil.get_terminal_size().lines - 2)
        if len(lines) > height:
            lines = [*lines[: height - 1], f"and {len(lines) - height + 1} more"]
        width = shutil.get_terminal_size().columns - 1
        if self._drawn:
            print(f"\x1b[{self._drawn}A\x1b[J", end="")
        for text in lines:
            print(text[:width])
        sys.stdout.flush()
        self._drawn = len(lines)


def line(one: Line, *, bar: bool = True) -> str:
    """One box: `press-07: downloading [####....] 1.2 MiB of 4.0 MiB`."""
    parts = [f"{plain(one.box)}: {plain(one.word)}"]
    if one.total and one.word == "downloading":
        full = min(_BAR, _BAR * one.have // one.total)
        parts += [f"[{'#' * full}{'.' * (_BAR - full)}]"] if bar else []
        parts.append(f"{size(one.have)} of {size(one.total)}")
    if one.left_s is not None:
        parts.append(left(one.left_s, one.most_s))
    if one.code:
        parts.append(f"[{plain(one.code)}]")
    return " ".join(parts)


def last(outcome: Outcome, said: Container[str] = ()) -> list[str]:
    """What is to be read when nothing moves any more: boxes and hints, then who is apart, then the sum.

    `said`: boxes whose line stands above.
    """
    found = []
    for one in outcome.lines:
        if one.fate == "apart" or (one.fate == "active" and one.box in said):
            continue
        message = f": {plain(one.message)}" if one.message else ""
        found.append(f"{plain(one.box)}: {plain(one.word)}{message}" + (f" [{plain(one.code)}]" if one.code else ""))
        if one.hint:
            found.append(f"  {plain(one.hint)}")
    apart: dict[str, list[str]] = {}
    for one in outcome.lines:
        if one.fate == "apart":
            apart.setdefault(plain(one.word), []).append(plain(one.box))
    for word, boxes in apart.items():
        more = f" and {len(boxes) - _APART} more" if len(boxes) > _APART else ""
        found.append(f"apart, {word}: {', '.join(boxes[:_APART])}{more}")
    counts = Counter(one.fate for one in outcome.lines)
    words = {"active": "active", "failed": "failed", "open": "not done", "apart": "apart"}
    told = ", ".join(f"{counts[fate]} {text}" for fate, text in words.items() if counts[fate])  # type: ignore[index]
    return [*found, told or "no box that this order is for has ever said a word on this broker"]


def _gist(one: Line) -> str:
    """What makes a line worth saying again: not each byte."""
    tenth = 10 * one.have // one.total if one.total else 0
    return f"{one.word} {one.code} {tenth}"
