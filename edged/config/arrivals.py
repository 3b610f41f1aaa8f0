"""How models arrive on this box: the section `push`, and the models that no file names (`push.models: any`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec

from edged.config import broker, files, hours, keys, nodes, schema
from edged.config.keys import Key
from edged.config.nodes import line_of
from edged.config.reader import Reader
from edged.topics import Tree

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
WRITTEN: Final[dict[str, Any]] = {**keys.fields(schema.Push), "install": _INSTALL, "mqtt": nodes.Node}


def section(reader: Reader, node: nodes.Node, tree: Tree | None) -> schema.Push:
    """`tree` None: there is no broker for anything else."""
    found = reader.members(node, "push", schema.Push, WRITTEN)
    if "mqtt" in found:
        found["mqtt"] = _broker(reader, found["mqtt"], tree)
    if found.get("mqtt") is not None and found.get("connection") == "shared":
        what = "there is no connection to share: push.mqtt has pushes come from another broker"
        hint = "leave out push.mqtt or push.connection"
        reader.refuse(line_of(node, "connection"), "push.connection", what, hint)
    if "install" in found:
        _install(reader, node, found)
    if "trust" in found:
        path = reader.folder / found["trust"]
        found["trust"] = str(path)
        try:
            files.readable(path)
        except ValueError as error:
            reader.refuse_error(line_of(node, "trust"), "push.trust", error)
            found["trust"] = ""
    if found.get("models") == "any" and "trust" not in found:
        what = "a model that this file does not name takes a signed release, and nobody's signature counts here"
        reader.refuse(line_of(node, "models"), "push.models", what, "name the root of trust: push.trust")
    return schema.Push(**found)


def _broker(reader: Reader, node: nodes.Node, tree: Tree | None) -> schema.Courier | None:
    if tree is None:
        what = "is for a second broker, and there is no first"
        reader.refuse(node.line, "push.mqtt", what, "a box with one broker has it below mqtt")
        return None
    found = broker.of_pushes(reader, node, tree.device)
    return None if found is None else msgspec.structs.replace(found, base=tree.base)


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
