"""From a YAML file, or from `--model NAME=FILE`, to a checked Config; the only user of PyYAML.

`load` raises ConfigErrors with every mistake of the file at once. PyYAML only composes the document;
what a plain `no`, `1.10` or `0123` means is decided by the key it stands under (reader.py), from its
source text, so that none of YAML 1.1's guesses about types reaches anybody.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from edged.config import checks, files, nodes, schema, sections
from edged.config.mistakes import ConfigErrors, Mistake
from edged.config.places import places
from edged.config.reader import Reader, below

_LARGEST: Final = 2**20
_DEEPEST: Final = 32
_CORE_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge", "value")
)
_ALIAS: Final = "edged:alias"


def find(path: str | None) -> Path:
    """The configuration's file: the one named, else this user's."""
    return Path(path) if path else places().config


def load(path: str | Path, environment: Mapping[str, str] = os.environ, *, need_models: bool = True) -> schema.Config:
    """The configuration in `path`. Raises ConfigErrors with all its mistakes.

    Without `need_models` a model's file may be missing: a box starts with what it has, and the model is
    reported failed, or runs a version that was pushed.
    """
    file = Path(path)
    reader = Reader(str(path), file.absolute().parent, environment, need_models=need_models)
    text = _text(reader, file)
    root = None if text is None else _Document(reader, text).root()
    found = None if root is None else sections.config(reader, root)
    if reader.mistakes or found is None:
        raise ConfigErrors(reader.mistakes)
    return found


def line_of(path: str | Path, *keys: str) -> int:
    """The line of a key in a valid configuration, for mistakes that show only later; 0 when it is not there."""
    reader = Reader(str(path), Path(path).absolute().parent, {})
    node = _Document(reader, Path(path).read_text(encoding="utf-8-sig")).root()
    line = 0
    for key in keys:
        member = node.members.get(key) if isinstance(node, nodes.Mapping) else None
        if member is None:
            return 0
        line, node = member.line, member.value
    return line


def from_models(models: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> schema.Config:
    """What `edged run --model NAME=FILE` runs: these files on the UNIX socket, without a broker."""
    reader = Reader("--model", Path.cwd(), environment)
    found = []
    for name, file in models.items():
        model = schema.Model(name=name, file=str(reader.folder / file))
        found.append(model)
        try:
            checks.model_name(name)
            files.readable(Path(model.file))
        except ValueError as error:
            reader.refuse_error(0, name, error)
    empty = sections.config(reader, nodes.Mapping({}, 0))
    if reader.mistakes:
        raise ConfigErrors(reader.mistakes)
    return schema.Config(device=empty.device, sockets=empty.sockets, models=tuple(found))


def _text(reader: Reader, file: Path) -> str | None:
    """The file as text, or None with the reason noted."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except OSError as error:
        refusal = files.unreadable(file, error)
        hint = refusal.hint or "name another with --config; `edged run --model NAME=FILE` needs none"
        # The file is named in front of the mistake already.
        reader.refuse(0, "", str(refusal).removeprefix(f"{file} "), hint)
        return None
    if len(content) > _LARGEST:
        reader.refuse(0, "", f"is above {_LARGEST >> 20} MiB: no configuration")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reader.refuse(content.count(b"\n", 0, error.start) + 1, "", "is no text in UTF-8", "save it as UTF-8")
        return None


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

    def __init__(self, reader: Reader, text: str) -> None:
        self._reader = reader
        self._text = text

    def root(self) -> nodes.Node | None:
        """The document; an empty one is an empty mapping, None is one that cannot be read (which is noted)."""
        try:
            composer = _Composer(self._text)
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
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
            self._reader.refuse(composer.get_mark().line + 1, "", "there is no character, or version, of this number")
            return None
        return nodes.Mapping({}, 1) if composed is None else self._node(composed, "", composed.start_mark.line + 1)

    def _node(self, node: yaml.Node, path: str, line: int) -> nodes.Node:
        """`line` is where a collection begins for people: at its key."""
        if node.tag == _ALIAS:
            own = node.start_mark.line + 1
            self._reader.refuse(
                own, path, "* begins an alias, which is not used here", f'did you mean "*{node.value}"?'
            )
            return nodes.Broken(own)
        if node.tag not in _CORE_TAGS:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            hint = "${NAME} and password_file keep secrets" if tag == "!secret" else "quote a value that begins with !"
            self._reader.refuse(node.start_mark.line + 1, path, f"the tag {tag} is not used here", hint)
            return nodes.Broken(node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, line)
        if isinstance(node, yaml.SequenceNode):
            items = [
                self._node(item, f"{path}[{index}]", item.start_mark.line + 1) for index, item in enumerate(node.value)
            ]
            return nodes.Sequence(tuple(items), line)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise TypeError(f"PyYAML composed a {type(node).__name__}")

    def _mapping(self, node: yaml.MappingNode, path: str, line: int) -> nodes.Mapping:
        members: dict[str, nodes.Member] = {}
        for key, value in node.value:
            here = key.start_mark.line + 1
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
        return nodes.Scalar(str(node.value), node.start_mark.line + 1, quoted=node.style is not None, comment=comment)

    def _refuse_syntax(self, error: yaml.MarkedYAMLError) -> None:
        """One mistake for a text that is no YAML: PyYAML stops at the first."""
        problem = str(error.problem or error.context)
        # A key without its colon is noticed only at the line after it.
        mark = error.context_mark if problem == "could not find expected ':'" else error.problem_mark
        mark = mark or error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        self._reader.refuse(line, "", problem, _syntax_hint(problem, self._line(mark)))

    def _line(self, mark: yaml.Mark | None) -> str:
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


__all__ = ["ConfigErrors", "Mistake", "find", "from_models", "load"]
