"""The names of a model's classes: among the notes of who exported it, or in a list beside its file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_KEYS: Final = ("names", "class_names", "classes", "labels")
_MOST: Final = 20_000
_LISTS: Final = re.compile(r"label|class|name|synset|categor", re.IGNORECASE)
_FILES: Final = 50
_LARGEST: Final = 2**20


def noted(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Names among an exporter's notes: Ultralytics writes a dict of Python's, from number to name, others lists."""
    for key in _KEYS:
        text = metadata.get(key, "").strip()
        if text[:1] not in ("[", "{"):
            continue
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        if isinstance(found, dict):
            found = [found.get(index) for index in range(min(len(found), _MOST + 1))]
        if isinstance(found, list) and 0 < len(found) <= _MOST and all(map(_is_name, found)):
            return tuple(map(str, found))
    return ()


def _is_name(name: object) -> bool:
    """Whether a configuration can say it: `${` would be a variable, and control characters are refused."""
    text = str(name)
    return isinstance(name, str | int) and bool(text.strip()) and text.isprintable() and "${" not in text


def beside(model: Path) -> Iterator[tuple[Path, int]]:
    """Lists of names in the model's folder, one a line: each with how many it has, those called like it first."""
    files = [one for pattern in ("*.txt", "*.names") for one in sorted(model.parent.glob(pattern))]
    files = [one for one in files if one.is_file() and (one.stem == model.stem or _LISTS.search(one.name))]
    for file in sorted(files, key=lambda one: not one.name.startswith(model.stem))[:_FILES]:
        try:
            lines = file.read_text("utf-8").splitlines() if file.stat().st_size <= _LARGEST else []
        except (OSError, UnicodeDecodeError):
            continue
        if lines and all(line.strip() and line.isprintable() for line in lines):
            yield file, len(lines)
