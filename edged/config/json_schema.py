"""The configuration as JSON Schema (draft 7), made from the structs that load.py reads it into. Pure.

For editors and for checks elsewhere. It is never stricter than `edged check`, which also looks at files,
at what goes together, and at bounds of values with a unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, get_args, get_origin

import msgspec

from edged.config import chain, keys, nodes, schema, sections, steps, units
from edged.config.reader import TRUTH, required
from edged.topics import NAME

Schema = dict[str, Any]

_UNITS: Final = (units.Duration, units.Size, units.Percent, units.Factor, units.Rate)


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


# The keys that are read by hand, and what they take.
_BY_HAND: Final[dict[tuple[type, str], Schema]] = {
    (schema.Config, "mqtt"): _ref("mqtt"),
    (schema.Config, "sockets"): _ref("sockets"),
    (schema.Config, "push"): _ref("push"),
    (schema.Push, "mqtt"): _ref("courier"),
    (schema.Config, "defaults"): _ref("defaults"),
    (schema.Config, "models"): {
        "type": ["object", "null"],
        "patternProperties": {f"^{NAME.pattern}$": _ref("model")},
        "additionalProperties": False,
    },
    (schema.Model, "inputs"): {"type": ["array", "null"], "items": _ref("input")},
    (schema.Model, "preprocess"): {"type": ["array", "null"], "items": _ref("preprocess")},
    (schema.Model, "postprocess"): {"type": ["array", "null"], "items": _ref("postprocess")},
}


def document() -> Schema:
    """The schema of a whole file. A drop-in says less than `required` asks for where it only changes a section."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "The configuration of edged",
        **_section(schema.Config),
        "definitions": {
            "mqtt": _section(schema.Mqtt),
            "sockets": _section(schema.Sockets),
            "push": _section(schema.Push),
            "courier": _section(schema.Courier),
            "model": _section(schema.Model),
            "defaults": _section(schema.Model, sections.DEFAULTS),
            "input": _section(schema.Input),
            **{name: {"anyOf": list(_steps(table.values()))} for name, table in chain.TABLES.items()},
            # `no` and 1.10 are text where text is meant.
            "text": {"type": ["string", "number", "boolean"]},
            "variable": {"type": "string", "pattern": r"\$\{", "description": "${NAME} or ${NAME:-default}"},
        },
    }


def _section(owner: type[msgspec.Struct], written: Mapping[str, Any] | None = None) -> Schema:
    """A mapping with the keys that `owner` is written with; nothing at all is as good as none of them."""
    known = written or sections.WRITTEN.get(owner) or keys.fields(owner)
    found: Schema = {
        "type": ["object", "null"],
        "properties": {name: _key(owner, name, annotation) for name, annotation in known.items()},
        "additionalProperties": False,
    }
    needed = [name for name in required(owner) if name in known and owner not in (schema.Config, schema.Model)]
    if needed:
        found["required"] = needed
    if doc := (owner.__doc__ or "").strip():
        found["description"] = doc.splitlines()[0]
    return found


def _key(owner: type, name: str, annotation: Any) -> Schema:
    if annotation is nodes.Node:
        return _BY_HAND[owner, name]
    what = keys.kind(annotation)
    found: Schema = {"description": what.key.about} if what.key.about else {}
    if what.type in _UNITS:
        found["description"] += f" ({keys.takes(what)})"
    default = what.key.default or _default(owner, name)
    if default is not None:
        found["default"] = default
    return {**found, **_value(what)}


def _default(owner: type, name: str) -> Any:
    """What applies when the key is absent, as it would be written; None where that is nothing."""
    every = (one for kind in (owner, steps.Form) for one in keys.told(kind))
    found = next((one.default for one in every if one.encode_name == name), None)
    return units.spelled(found) if isinstance(found, _UNITS) else found if isinstance(found, str | int) else None


def _value(what: keys.Kind) -> Schema:
    """What a key takes; a single value may also come from the environment."""
    if get_origin(what.type) is tuple:
        return _list(what)
    if isinstance(what.type, type) and issubclass(what.type, msgspec.Struct):
        first = next(iter(keys.fields(what.type).values()))
        section = _section(what.type)
        return {"anyOf": [_value(keys.kind(first)), section]} if what.key.one else section
    if what.type is str:
        return _ref("text")
    return {"anyOf": [*_scalar(what), _ref("variable")]}


def _list(what: keys.Kind) -> Schema:
    item = _value(keys.Kind(get_args(what.type)[0], what.key))
    many: Schema = {"type": ["array", "null"], "items": item}
    if what.key.distinct:
        many["uniqueItems"] = True
    return {"anyOf": [item, many]} if what.key.one else many


def _scalar(what: keys.Kind) -> list[Schema]:
    if get_origin(what.type) is Literal:
        return [{"enum": [word for one in get_args(what.type) for word in _spellings(one)]}]
    if what.type is bool:
        words = "|".join("".join(f"[{c.upper()}{c}]" for c in word) for word in TRUTH)
        return [{"type": "boolean"}, {"type": "string", "pattern": f"^({words})$"}]
    if what.type in _UNITS:
        return [{"const": 0}, {"type": "string", "pattern": units.pattern(what.type)}]
    bounds = {"minimum": what.key.low, "maximum": what.key.high}
    number = "integer" if what.type is int else "number"
    found: list[Schema] = [{"type": number, **{name: bound for name, bound in bounds.items() if bound is not None}}]
    return [*found, {"const": what.key.word}] if what.key.word else found


def _spellings(word: str | int) -> list[str | int]:
    """What YAML makes of a word: `5` is a number there, whether we mean text or not."""
    return [word, int(word)] if isinstance(word, str) and word.isdigit() else [word]


def _steps(table: Iterable[type[msgspec.Struct]]) -> Iterator[Schema]:
    """`- name` for a step without options, else `- name: option` or `- name: {key: ..}`."""
    for step in table:
        name, known = str(step.__struct_config__.tag), keys.fields(step)
        if not known:
            yield {"const": name}
            yield _only(name, {"type": "null"})
            continue
        option = _value(keys.kind(known[step.__struct_fields__[0]]))
        if step in chain.WITH_KEYS:
            yield _only(name, {**_section(step), "type": "object"})
        if step is steps.Labels:
            option = {"anyOf": [option, {"type": "string", "description": "a file with one name per line"}]}
        if step not in chain.WITH_KEYS or step is steps.Resize:  # which may be a bare [W, H]
            yield _only(name, option)


def _only(name: str, value: Schema) -> Schema:
    return {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}
