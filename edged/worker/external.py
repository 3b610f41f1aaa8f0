"""The files that an ONNX model keeps weights in beside its own, and whether it may.

onnxruntime opens whatever a model names in its folder. A model that came from elsewhere may name what its release
lists, and nothing else: no path, no neighbour. So every place where a tensor can stand is looked at first (onnx.proto,
TensorProto.external_data).
"""

from __future__ import annotations

import mmap
import stat
from pathlib import Path
from typing import Final

from edged.errors import EdgedError
from edged.protobuf import Buffer, fields, message, text

_KEY: Final = "location"
# Which fields of a message hold which other messages, down to the entries of external_data.
_INSIDE: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


def check_beside(file: str, listed: tuple[str, ...] | None) -> None:
    """Raises EdgedError not_a_model for weights in a file that is not `listed`, or is none; None: any may be named."""
    if listed is None:
        return
    for name in sorted(external(file)):
        if name not in listed:
            hint = "`edged release` takes the files of a model with --file; a simple push carries one file alone."
            raise EdgedError("not_a_model", f"it keeps weights in {name[:70]!r}, which no release lists", hint)
        if not stat.S_ISREG(_mode(Path(file).with_name(name))):
            raise EdgedError("not_a_model", f"it keeps weights in {name[:70]!r}, which is no file")


def external(file: str) -> frozenset[str]:
    """What the model names, as it is written there. Raises EdgedError not_a_model for what is no ONNX file."""
    try:
        with Path(file).open("rb") as opened:
            # Not closed by hand: an error may still hold parts of it.
            content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        # Most models are not walked through.
        return frozenset() if content.find(_KEY.encode()) < 0 else _walk(memoryview(content))
    except OSError as error:
        raise EdgedError("not_a_model", f"it cannot be read: {error.strerror or error}") from error
    except (ValueError, IndexError) as error:
        raise EdgedError("not_a_model", f"it is no ONNX file: {error}") from error


def _walk(content: Buffer) -> frozenset[str]:
    found: set[str] = set()
    left: list[tuple[str, Buffer]] = [("model", content)]
    while left:
        kind, view = left.pop()
        if kind == "entry":
            found |= _location(view)
            continue
        inside = _INSIDE[kind]
        left += [(inside[number], message(value)) for number, value in fields(view) if number in inside]
    return frozenset(found)


def _location(entry: Buffer) -> set[str]:
    """All values of an entry that is a location by any of its keys: of several, readers take different ones."""
    parts = list(fields(entry))
    if all(number != _ENTRY_KEY or text(value) != _KEY for number, value in parts):
        return set()
    return {text(value) for number, value in parts if number == _ENTRY_VALUE}


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0
