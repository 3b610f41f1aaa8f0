"""Reads nodes into the types that the schema's annotations name, and collects every mistake on the way.

Nothing here raises for what a person wrote: a value that cannot be used is noted with its line and
left out (UNSET), so that the rest of the file is still read.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import UNSET

from edged.config import keys, later, nodes, variables
from edged.config.mistakes import ConfigErrors, Mistake, Refusal
from edged.config.units import Duration, Factor, Percent, Rate, Size

_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_NUMBER: Final = re.compile(r"[-+]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?")
TRUTH: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_UNITS: Final = (Duration, Size, Percent, Factor, Rate)


class Reader:
    """One reading of a configuration: where relative paths start, the environment, and the mistakes so far."""

    def __init__(
        self,
        file: str,
        folder: Path,
        environment: Mapping[str, str],
        *,
        need_models: bool = True,
        release: frozenset[str] | None = None,
    ) -> None:
        self.need_models: Final = need_models
        self.file: Final = file
        self.folder: Final = folder
        self.environment: Final = environment
        self.mistakes: Final[list[Mistake]] = []
        self._release: Final = release  # the files of the release that is read, None for a box's configuration

    def refuse(self, line: int, path: str, what: str, hint: str = "") -> None:
        """Notes a mistake; a line that knows its file is of that one, any other of the file first named."""
        file = line.file if isinstance(line, nodes.Line) and line.file else self.file
        self.mistakes.append(Mistake(file, int(line), path, what, hint))

    def errors(self) -> ConfigErrors:
        return ConfigErrors(self.file, self.mistakes)

    def refuse_error(self, line: int, path: str, error: ValueError) -> None:
        self.refuse(line, path, str(error), getattr(error, "hint", ""))

    def struct(self, node: nodes.Node, path: str, owner: type[msgspec.Struct]) -> Any:
        """A struct whose fields are a mapping's keys; UNSET when it cannot be made."""
        found = self.members(node, path, owner, keys.fields(owner), required(owner))
        return make(owner, found)

    def members(
        self,
        node: nodes.Node,
        path: str,
        owner: type[msgspec.Struct],
        known: Mapping[str, Any],
        required: Iterable[str] = (),
    ) -> dict[str, Any]:
        """The usable values of a section by key; `known` has the annotations of the keys it is written with."""
        if isinstance(node, nodes.Broken):
            return {}
        if not isinstance(node, nodes.Mapping):
            if not (isinstance(node, nodes.Scalar) and node.empty):
                what = f"expected keys and values, found {nodes.describe(node)}"
                self.refuse(node.line, path, what, _section_hint(node, path, known))
                return {}
            node = nodes.Mapping({}, node.line)
        found: dict[str, Any] = {}
        for name, member in node.members.items():
            here = below(path, name)
            if name in known:
                found[name] = self.value(member.value, here, known[name])
            elif name in later.KEYS.get(owner, ()):
                self.refuse(member.line, here, "is not in this version of edged", "take it out")
            else:
                hint = later.INSTEAD.get(owner, {}).get(name) or suggest(name, known)
                self.refuse(member.line, here, "unknown key", hint)
        for name in required:
            if name not in node.members:
                self.refuse(node.line, below(path, name), "is missing", keys.kind(known[name]).key.about)
        return {name: value for name, value in found.items() if value is not UNSET}

    def value(self, node: nodes.Node, path: str, annotation: Any) -> Any:
        """One value in the type of its annotation, or UNSET."""
        if isinstance(node, nodes.Broken):
            return UNSET
        if annotation is nodes.Node:
            return node
        what = keys.kind(annotation)
        if get_origin(what.type) is tuple:
            return self._list(node, path, what)
        if _is_section(what.type):
            if what.key.one and isinstance(node, nodes.Scalar | nodes.Sequence):
                return self._short(node, path, what.type)
            return self.struct(node, path, what.type)
        if not isinstance(node, nodes.Scalar):
            self.refuse(
                node.line, path, f"expected {keys.takes(what)}, found {nodes.describe(node)}", _brace_hint(node)
            )
            return UNSET
        try:
            value = scalar(self.resolved(node), what)
            if what.key.check is not None:
                what.key.check(value)
        except ValueError as error:
            self.refuse_error(node.line, path, error)
            return UNSET
        return value

    def _short(self, node: nodes.Node, path: str, owner: type[msgspec.Struct]) -> Any:
        """A struct of which only the first key is said, without its name."""
        name, annotation = next(iter(keys.fields(owner).items()))
        value = self.value(node, path, annotation)
        return UNSET if value is UNSET else make(owner, {name: value})

    def resolved(self, node: nodes.Scalar) -> nodes.Scalar:
        """The scalar with its `${NAME}`s replaced; what came from the environment counts as written without quotes."""
        if "${" not in node.text:
            return node
        if self._release is not None:
            raise Refusal("a release takes nothing from the environment of a box", "write the value itself")
        text = variables.resolve(node.text, self.environment)
        # An empty variable is an empty text, said on purpose: not a value that somebody forgot.
        return nodes.Scalar(text, node.line, quoted=not text)

    def beside(self, name: str) -> Path:
        """A file that is named: relative to the folder; of a release only one of its own. Raises Refusal."""
        path = self.folder / name
        if self._release is not None and (name not in self._release or path.is_symlink()):
            raise Refusal(f"{name[:70]!r} is none of the release's files", "name one without a folder")
        return path

    def _list(self, node: nodes.Node, path: str, what: keys.Kind) -> Any:
        """Each item, without those that cannot be used: the mistake is noted."""
        if isinstance(node, nodes.Scalar) and node.empty:
            if node.comment:
                self.refuse(node.line, path, "has no value", _comment_hint(node))
                return UNSET
            items: tuple[nodes.Node, ...] = ()
        elif isinstance(node, nodes.Sequence):
            items = node.items
        elif isinstance(node, nodes.Scalar) and what.key.one:
            return self._checked_list(node, path, (node,), what, single=True)
        else:
            text = node.text if isinstance(node, nodes.Scalar) and get_args(what.type)[0] is not str else ""
            such = f"[{text}, {text}]" if _NUMBER.fullmatch(text) else "[a, b]"
            self.refuse(node.line, path, f"expected a list, found {nodes.describe(node)}", f"such as {such}")
            return UNSET
        return self._checked_list(node, path, items, what, single=False)

    def _checked_list(
        self, node: nodes.Node, path: str, items: tuple[nodes.Node, ...], what: keys.Kind, *, single: bool
    ) -> Any:
        """`check` is for an item where the items are text, and for the list as a whole where they are numbers."""
        inner = get_args(what.type)[0]
        of_text = inner is str
        note = msgspec.structs.replace(what.key, check=what.key.check if of_text else None)
        found = tuple(
            self.value(item, path if single else f"{path}[{index}]", keys.annotated(inner, note))
            for index, item in enumerate(items)
        )
        if UNSET in found:
            return UNSET
        if what.key.distinct and (twice := [one for one, count in Counter(found).items() if count > 1]):
            self.refuse(node.line, path, f"{twice[0]} is given twice")
            return UNSET
        if what.key.check is not None and not of_text:
            try:
                what.key.check(found)
            except ValueError as error:
                self.refuse_error(node.line, path, error)
                return UNSET
        return found


def below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def make(owner: type[msgspec.Struct], found: Mapping[str, Any]) -> Any:
    """The struct, or UNSET when a key that it cannot do without is absent (which is noted already)."""
    if any(name not in found for name in required(owner)):
        return UNSET
    names = {field.encode_name: field.name for field in keys.told(owner)}
    return owner(**{names[name]: value for name, value in found.items()})


def suggest(name: str, known: Iterable[str]) -> str:
    """What somebody may have meant by `name`: the nearest word, else all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1) or difflib.get_close_matches(
        name.lower(), known, n=1
    )
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"


def scalar(node: nodes.Scalar, what: keys.Kind) -> Any:
    """A scalar's value in a type that is no list and no struct. Raises ValueError with the reason."""
    if node.empty:
        raise Refusal("has no value", _comment_hint(node) or f"it takes {keys.takes(what)}")
    if node.text in what.key.later:
        raise Refusal(f"{node.text} is not in this version of edged", f"it takes {keys.takes(what)}")
    if what.key.word and node.text == what.key.word:
        return None
    if get_origin(what.type) is Literal:
        return _choice(node, what)
    if what.type is str:
        return _text(node.text)
    value = _quantity(node, what)
    low, high = what.key.low, what.key.high
    if (low is not None and value < low) or (high is not None and value > high):
        raise Refusal(f"{node.text} is out of range", f"it takes {keys.takes(what)}")
    return value


def _quantity(node: nodes.Scalar, what: keys.Kind) -> Any:
    """Everything that YAML writes without quotes: truth, numbers, and numbers with a unit."""
    if what.type in _UNITS:
        try:
            return what.type.parse(node.text)
        except ValueError as error:
            hint = getattr(error, "hint", "") or _number_hint(node.text)
            raise Refusal(f"{error}, found {nodes.describe(node)}", hint) from error
    if node.quoted:
        raise Refusal(f"expected {keys.takes(what)}, found text", f"did you mean {node.text} without quotes?")
    if what.type is bool:
        value = TRUTH.get(node.text.lower())
        if value is None:
            raise Refusal(f"expected true or false, found {nodes.describe(node)}")
        return value
    pattern, expected = (_WHOLE, "a whole number") if what.type is int else (_NUMBER, "a number")
    if pattern.fullmatch(node.text) is None or (what.type is float and not math.isfinite(float(node.text))):
        raise Refusal(f"expected {expected}, found {nodes.describe(node)}", _number_hint(node.text))
    return what.type(node.text)


def _choice(node: nodes.Scalar, what: keys.Kind) -> Any:
    words = {str(word): word for word in get_args(what.type)}
    if node.text not in words:
        near = difflib.get_close_matches(node.text.lower().replace("_", "-"), words, n=1)
        meant = f"did you mean {near[0]}?" if near else ""
        raise Refusal(f"expected {keys.takes(what)}, found {nodes.describe(node)}", meant)
    value = words[node.text]
    if node.quoted and not isinstance(value, str):
        raise Refusal(f"expected {keys.takes(what)}, found text", f"did you mean {node.text} without quotes?")
    return value


def _text(text: str) -> str:
    """`text`, unless it holds what no name, topic, path or password of ours can."""
    if any(ord(letter) < 0x20 or 0xD800 <= ord(letter) <= 0xDFFF for letter in text):
        raise Refusal("a value holds no control characters, and no halves of a character")
    return text


def required(owner: type[msgspec.Struct]) -> list[str]:
    """The fields that a struct cannot do without."""
    return [field.name for field in keys.told(owner) if field.required]


def _number_hint(text: str) -> str:
    if re.fullmatch(r"0[0-9_]+", text):
        return f"a leading 0 makes YAML read it as octal: did you mean {text.lstrip('0') or '0'}?"
    if re.fullmatch(r"[0-9]+(:[0-9]+)+", text):
        return "YAML reads digits with colons as base 60"
    return ""


def _comment_hint(node: nodes.Scalar) -> str:
    return f'# begins a comment: did you mean "{node.comment}"?' if node.comment else ""


def _brace_hint(node: nodes.Node) -> str:
    if isinstance(node, nodes.Mapping) and len(node.members) == 1:
        name, member = next(iter(node.members.items()))
        if isinstance(member.value, nodes.Scalar) and member.value.empty:
            return f'an unquoted {{ begins a mapping: did you mean "{{{name}}}"?'
    return ""


def _section_hint(node: nodes.Node, path: str, known: Mapping[str, Any]) -> str:
    """What was meant by one value in the place of a section: the key that takes it, or one without its space.

    Text says little about its key: it is taken for the first one's alone, where it looks like a file or has a check.
    """
    if not isinstance(node, nodes.Scalar) or not path or "${" in node.text:
        return ""
    kinds = {name: _of_item(keys.kind(annotation)) for name, annotation in known.items()}
    name = next((name for name, what in kinds.items() if what.type is not str and _takes(what, node)), "")
    if not name and (found := re.match(r"([A-Za-z_]+):(?!//)(\S+)", node.text)) and not node.quoted:
        return f"did you mean {found[1]}: {found[2]} (with a space)?"
    if not name and kinds and _takes(next(iter(kinds.values())), node):
        name = next(iter(kinds))
    section = "" if path.endswith("]") else f"{path.rpartition('.')[2]}: "
    return f"did you mean {section}{{{name}: {node.text}}}?" if name else ""


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _of_item(what: keys.Kind) -> keys.Kind:
    """The same of an item, where a list of one may be written without brackets."""
    return keys.Kind(get_args(what.type)[0], what.key) if get_origin(what.type) is tuple and what.key.one else what


def _takes(what: keys.Kind, node: nodes.Scalar) -> bool:
    """Whether a value can be this key's."""
    if get_origin(what.type) is tuple or what.type is nodes.Node or _is_section(what.type):
        return False
    if what.type is str and what.key.check is None and not re.search(r"[./]", node.text):
        return False
    try:
        value = scalar(node, what)
        if what.type is str and what.key.check is not None:
            what.key.check(value)
    except ValueError:
        return False
    return True
