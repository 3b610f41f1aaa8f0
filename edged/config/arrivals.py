"""How models arrive on this box: the section `push`, and the models that no file names (`push.models: any`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec

from edged.config import files, hours, keys, nodes, schema
from edged.config.keys import Key
from edged.config.nodes import line_of
from edged.config.reader import Reader

_INSTALL: Final = Annotated[
    tuple[str, ...],
    Key(
        "when what was fetched may be tried and answer: at once (auto), when `edged install MODEL` says so (manual), "
        "or in these hours of the local day: `02:00-04:00`, also over midnight",
        check=hours.word_or_hours,
        one=True,
        distinct=True,
        default="`auto`",
    ),
]
# What it is written with, where that is not the struct's own fields.
WRITTEN: Final[dict[str, Any]] = {**keys.fields(schema.Push), "install": _INSTALL}


def section(reader: Reader, node: nodes.Node) -> schema.Push:
    found = reader.members(node, "push", schema.Push, WRITTEN)
    if "install" in found:
        _install(reader, node, found)
    if "trust" in found:
        path = reader.folder / found["trust"]
        found["trust"] = str(path)
        try:
            files.readable(path)
        except ValueError as error:
            reader.refuse_error(line_of(node, "trust"), "push.trust", error)
    if found.get("models") == "any" and "trust" not in found:
        what = "a model that this file does not name takes a signed release, and nobody's signature counts here"
        reader.refuse(line_of(node, "models"), "push.models", what, "name the root of trust: push.trust")
    return schema.Push(**found)


def _install(reader: Reader, node: nodes.Node, found: dict[str, Any]) -> None:
    """Puts what the words and hours mean in their place."""
    try:
        found["install"] = hours.install(found["install"])
    except ValueError as error:
        reader.refuse_error(line_of(node, "install"), "push.install", error)
        del found["install"]


def with_arrived(config: schema.Config, names: Iterable[str]) -> schema.Config:
    """`config` with the models that signed releases have brought: what it names itself is as it says there, and
    where it takes no others there are none.
    """
    known = {model.name for model in config.models}
    more = [one for one in dict.fromkeys(names) if one not in known] if config.push.models == "any" else []
    arrived = tuple(msgspec.structs.replace(config.arriving, name=name) for name in more)
    return msgspec.structs.replace(config, models=(*config.models, *arrived))
