"""A YAML document as plain values that know their line: what load.py composes and reader.py reads."""

from __future__ import annotations

import msgspec


class Scalar(msgspec.Struct, frozen=True):
    """One value, as its source text; `comment` is the `#word` that stands where the value should."""

    text: str
    line: int
    quoted: bool = False
    comment: str = ""

    @property
    def empty(self) -> bool:
        """Whether YAML says null: nothing at all, `~` or `null` without quotes."""
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


class Sequence(msgspec.Struct, frozen=True):
    """A list; `line` is its key's."""

    items: tuple[Node, ...]
    line: int


class Member(msgspec.Struct, frozen=True):
    """One `key: value`; `line` is the key's."""

    line: int
    value: Node


class Mapping(msgspec.Struct, frozen=True):
    """Keys, as their source text, and values; `line` is its own key's."""

    members: dict[str, Member]
    line: int


class Broken(msgspec.Struct, frozen=True):
    """A value that cannot be read, and whose mistake is noted already."""

    line: int


Node = Scalar | Sequence | Mapping | Broken


def describe(node: Node) -> str:
    """What a node is, in a person's words."""
    if isinstance(node, Scalar):
        return "nothing" if node.empty else f"{_short(node.text)!r}"
    return "a list" if isinstance(node, Sequence) else "a mapping (key: value)"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
