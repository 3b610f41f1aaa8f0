"""A YAML document as plain values that know their line: what document.py composes and reader.py reads."""

from __future__ import annotations

from typing import Self

import msgspec


class Line(int):
    """A line's number, counted from 1, that knows which file it is of; 0 = the file as a whole."""

    file: str

    def __new__(cls, number: int, file: str = "") -> Self:
        made = super().__new__(cls, number)
        made.file = file
        return made


class Scalar(msgspec.Struct, frozen=True):
    """One value, as its source text; `comment` is the `#word` that stands where the value should."""

    text: str
    line: Line
    quoted: bool = False
    comment: str = ""

    @property
    def empty(self) -> bool:
        """Whether YAML says null: nothing at all, `~` or `null` without quotes."""
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


class Sequence(msgspec.Struct, frozen=True):
    """A list; `line` is its key's."""

    items: tuple[Node, ...]
    line: Line


class Member(msgspec.Struct, frozen=True):
    """One `key: value`; `line` is the key's."""

    line: Line
    value: Node


class Mapping(msgspec.Struct, frozen=True):
    """Keys, as their source text, and values; `line` is its own key's."""

    members: dict[str, Member]
    line: Line


class Broken(msgspec.Struct, frozen=True):
    """A value that cannot be read, and whose mistake is noted already."""

    line: Line


Node = Scalar | Sequence | Mapping | Broken


def describe(node: Node) -> str:
    """What a node is, in a person's words."""
    if isinstance(node, Scalar):
        return "nothing" if node.empty else f"{_short(node.text)!r}"
    return "a list" if isinstance(node, Sequence) else "a mapping (key: value)"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def line_of(node: Node, *names: str) -> Line:
    """The line of a key below `node`, or of the deepest one on the way that is there."""
    line = node.line
    for name in names:
        if not isinstance(node, Mapping) or name not in node.members:
            break
        line, node = node.members[name].line, node.members[name].value
    return line


def line_of_item(node: Node, name: str, index: int, key: str) -> Line:
    """The line of a key in an item of the list `name` below `node`; of `node` where that is not there."""
    items = node.members[name].value if has(node, name) and isinstance(node, Mapping) else None
    if isinstance(items, Sequence) and index < len(items.items):
        return line_of(items.items[index], key)
    return node.line


def has(node: Node, name: str) -> bool:
    """Whether `node` is a mapping with this key."""
    return isinstance(node, Mapping) and name in node.members
