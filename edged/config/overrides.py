"""What a release's model.yaml sets for its own version of the model, and how it is read.

A closed list: the steps before and after the model, and its batches; each replaces what the box's configuration
says as a whole. Everything else (topics, limits, queue, threads) stays the box's. The reader is the
configuration's own, but for two things: a file that is named is one of the release's, and nothing comes from the
environment of the box.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import msgspec

from edged.config import document, files, keys, nodes, schema
from edged.config.chain import chain
from edged.config.mistakes import ConfigErrors
from edged.config.reader import Reader
from edged.config.schema import Batch
from edged.config.steps import Postprocess, Preprocess
from edged.errors import EdgedError

FILE: Final = "model.yaml"
LARGEST: Final = 64 * 2**10  # bytes: it is read beside a loop that answers, at some 3 us a byte
_STEPS: Final = ("preprocess", "postprocess")
_KNOWN: Final[dict[str, Any]] = {**dict.fromkeys(_STEPS, nodes.Node), "batch": keys.fields(schema.Model)["batch"]}


class Overrides(msgspec.Struct, frozen=True):
    """What holds in place of the box's; None: the box's does."""

    preprocess: tuple[Preprocess, ...] | None = None
    postprocess: tuple[Postprocess, ...] | None = None
    batch: Batch | None = None

    def over(self, settings: schema.Model) -> schema.Model:
        """The box's settings of the model as they are for this version of it."""
        own = {name: getattr(self, name) for name in self.__struct_fields__}
        return msgspec.structs.replace(settings, **{name: set_ for name, set_ in own.items() if set_ is not None})


def read(folder: Path, listed: Collection[str]) -> Overrides:
    """`folder`/model.yaml, of a release whose files are `listed` by name.

    Raises EdgedError bad_settings, with every mistake as `model.yaml:line: key: what (hint)`.
    """
    reader = Reader(FILE, folder, {}, release=frozenset(listed))
    found: dict[str, Any] = {}
    try:
        root = document.read(reader, FILE, files.text(reader.beside(FILE), LARGEST, "a model.yaml"))
        if root is not None:
            found = _members(reader, root)
    except ValueError as error:
        reader.refuse_error(0, "", error)
    if reader.mistakes:
        raise EdgedError("bad_settings", _in_words(reader.errors()))
    return Overrides(**found)


def _members(reader: Reader, root: nodes.Node) -> dict[str, Any]:
    if isinstance(root, nodes.Mapping):
        boxes = [name for name in root.members if name in keys.fields(schema.Model) and name not in _KNOWN]
        for name in boxes:
            what = "is the box's to say, not the release's"
            reader.refuse(root.members[name].line, name, what, f"it may set {', '.join(_KNOWN)}")
        own = {name: member for name, member in root.members.items() if name not in boxes}
        root = nodes.Mapping(own, root.line)
    found = reader.members(root, "", schema.Model, _KNOWN)
    for section in _STEPS:
        if section in found:
            found[section] = chain(reader, found[section], section, section)
    return found


def _in_words(errors: ConfigErrors) -> str:
    shown = [str(mistake) for mistake in errors.mistakes[:8]]
    more = len(errors.mistakes) - len(shown)
    return "; ".join(shown + ([f"and {more} more"] if more else []))
