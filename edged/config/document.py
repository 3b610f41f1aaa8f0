"""One YAML text as nodes that know their file and line; the only user of PyYAML.

PyYAML only composes the document; what a plain `no`, `1.10` or `0123` means is decided by the key it
stands under (reader.py), from its source text, so that none of YAML 1.1's guesses about types reaches
anybody.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from edged.config import nodes
from edged.config.nodes import Line
from edged.config.reader import Reader, below

_DEEPEST: Final = 32
_CORE_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge", "value")
)
_ALIAS: Final = "edged:alias"


def read(reader: Reader, file: str, text: str) -> nodes.Node | None:
    """The document of `file`; an empty one is an empty mapping, None is one that cannot be read (which is noted)."""
    return _Document(reader, file, text).root()


class _Composer(yaml.SafeLoader):
    """PyYAML's composer without aliases, which a small file could use to become a huge one, and without depth."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.get_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it out
            return yaml.ScalarNode(_ALIAS, event.anchor, event.start_mark, event.end_mark)
        if self._depth == _DEEPEST:
            mark = self.get_mark()
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Document:
    """One text on its way from PyYAML's nodes to ours."""

    def __init__(self, reader: Reader, file: str, text: str) -> None:
        self._reader = reader
        self._file = file
        self._text = text

    def root(self) -> nodes.Node | None:
        try:
            composer = _Composer(self._text)
        except yaml.reader.ReaderError as error:
            line = self._line_at(self._text.count("\n", 0, error.position))
            self._reader.refuse(
                line, "", f"the character U+{ord(self._text[error.position]):04X} is not allowed in YAML"
            )
            return None
        try:
            composed = composer.get_single_node()
        except yaml.MarkedYAMLError as error:
            self._refuse_syntax(error)
            return None
        except (ValueError, OverflowError):
            # PyYAML hands the number of a \U escape, and of a %YAML line, to Python unchecked.
            self._reader.refuse(
                self._line_at(composer.get_mark().line), "", "there is no character, or version, of this number"
            )
            return None
        if composed is None:
            return nodes.Mapping({}, self._line_at(0))
        return self._node(composed, "", self._line_at(composed.start_mark.line))

    def _node(self, node: yaml.Node, path: str, line: Line) -> nodes.Node:
        """`line` is where a collection begins for people: at its key."""
        if node.tag == _ALIAS:
            own = self._line_at(node.start_mark.line)
            self._reader.refuse(
                own, path, "* begins an alias, which is not used here", f'did you mean "*{node.value}"?'
            )
            return nodes.Broken(own)
        if node.tag not in _CORE_TAGS:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            hint = "${NAME} and password_file keep secrets" if tag == "!secret" else "quote a value that begins with !"
            self._reader.refuse(self._line_at(node.start_mark.line), path, f"the tag {tag} is not used here", hint)
            return nodes.Broken(self._line_at(node.start_mark.line))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, line)
        if isinstance(node, yaml.SequenceNode):
            items = [
                self._node(item, f"{path}[{index}]", self._line_at(item.start_mark.line))
                for index, item in enumerate(node.value)
            ]
            return nodes.Sequence(tuple(items), line)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise TypeError(f"PyYAML composed a {type(node).__name__}")

    def _mapping(self, node: yaml.MappingNode, path: str, line: Line) -> nodes.Mapping:
        members: dict[str, nodes.Member] = {}
        for key, value in node.value:
            here = self._line_at(key.start_mark.line)
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _CORE_TAGS:
                self._reader.refuse(here, path, "a key is a plain word", "quote what begins with {, [, * or !")
                continue
            name = str(key.value)  # the source text: `on`, `no` and 1.10 are words here
            if name in members:
                what = f"key given twice (first on line {members[name].line})"
                self._reader.refuse(here, below(path, name), what)
                continue
            members[name] = nodes.Member(here, self._node(value, below(path, name), here))
        return nodes.Mapping(members, line)

    def _scalar(self, node: yaml.ScalarNode) -> nodes.Scalar:
        comment = ""
        if not node.value and node.style is None:
            rest = self._text[node.end_mark.index :].split("\n", 1)[0]
            found = re.match(r"\s*(#[^\s#]\S*)", rest)
            comment = found[1] if found else ""
        return nodes.Scalar(
            str(node.value), self._line_at(node.start_mark.line), quoted=node.style is not None, comment=comment
        )

    def _refuse_syntax(self, error: yaml.MarkedYAMLError) -> None:
        """One mistake for a text that is no YAML: PyYAML stops at the first."""
        problem = str(error.problem or error.context)
        # A key without its colon is noticed only at the line after it.
        mark = error.context_mark if problem == "could not find expected ':'" else error.problem_mark
        mark = mark or error.problem_mark or error.context_mark
        line = self._line_at(mark.line) if mark else Line(0, self._file)
        self._reader.refuse(line, "", problem, _syntax_hint(problem, self._source(mark)))

    def _line_at(self, index: int) -> Line:
        return Line(index + 1, self._file)

    def _source(self, mark: yaml.Mark | None) -> str:
        if mark is None:
            return ""
        start = self._text.rfind("\n", 0, mark.index) + 1
        return self._text[start:].split("\n", 1)[0]


def _syntax_hint(problem: str, line: str) -> str:
    """What usually lies behind a syntax error on this line."""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent or "'\\t'" in problem:
        return "YAML is indented with spaces, not with tabs"
    value = re.match(r"[\s-]*(?:[A-Za-z_]+:\s+)?([{\[@`%|>*&!\"'].*)", line)
    if "{" in line:
        return 'a value with { in it is quoted: "cells/{cell}/digit"'
    if value and value[1][0] in "@`%|>*&!":
        return f"a value that begins with {value[1][0]} is quoted"
    if "mapping values are not allowed" in problem:
        return "a value with a colon and a space in it is quoted; or the indentation is off"
    if "could not find expected ':'" in problem:
        return "a key is followed by a colon and a space"
    return "look at the quotes, brackets and indentation of this line and the one before"
