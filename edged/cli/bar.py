"""A bar that fills while something goes on; plain lines where nobody looks at a terminal."""

from __future__ import annotations

import sys
import time
from typing import Final

from edged.cli.words import size

_WIDTH: Final = 30
_EVERY_S: Final = 0.1
_LINE_S: Final = 10.0


class Bar:
    """One bar, on standard error. `show` as often as there is news; `end` before anything else is printed."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._terminal: Final = sys.stderr.isatty()
        self._next_s = 0.0 if self._terminal else time.monotonic() + _LINE_S
        self._drawn = False

    def show(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` bytes."""
        now_s = time.monotonic()
        if now_s < self._next_s and not (self._drawn and done >= total):
            return
        self._next_s = now_s + (_EVERY_S if self._terminal else _LINE_S)
        text = f"{size(done)} of {size(total)}{note}"
        if self._terminal:
            full = round(_WIDTH * done / total) if total else _WIDTH
            print(f"\r{self._label} [{'#' * full}{'.' * (_WIDTH - full)}] {text}\x1b[K", end="", file=sys.stderr)
            sys.stderr.flush()
            self._drawn = True
        else:
            print(f"{self._label}: {text}", file=sys.stderr)

    def end(self) -> None:
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr)
            sys.stderr.flush()
            self._drawn = False
