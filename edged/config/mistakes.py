"""A configuration's mistakes as values, and the exception that carries all of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Mistake(msgspec.Struct, frozen=True):
    """One mistake. `line` counts from 1, 0 = the file as a whole; `path` is the key, "" likewise."""

    file: str
    line: int
    path: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        parts = [where, self.path, self.what] if self.path else [where, self.what]
        return ": ".join(parts) + (f" ({self.hint})" if self.hint else "")


class ConfigErrors(Exception):
    """A configuration that cannot be used; `mistakes` has every one: those of `file` first, then by file and line."""

    def __init__(self, file: str, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda one: (one.file != file, one.file, one.line)))
        super().__init__("\n".join(map(str, self.mistakes)))


class Refusal(ValueError):
    """Why one value is not accepted, where the place is not known yet; `hint` is what to write instead."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint
