"""The operator's own configuration, fleet.yaml: the broker, the keys, the trust documents.

Read as the box's is, with every mistake's line. Without the file keys and trust documents lie where it would:
making keys and signing takes no broker.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from edged.config import broker, document, keys, load, nodes, schema
from edged.config.keys import Key
from edged.config.reader import Reader
from edged.errors import EdgedError

VARIABLE: Final = "EDGED_FLEET"
_OPERATOR: Final = "operator"  # where a box would have its own name, in the client id
_MISSING: Final = f"{VARIABLE} names another"


class Fleet(msgspec.Struct, frozen=True):
    """`keys` is a folder, `trust` a file; both absolute. `file`: where all this stands, or would."""

    file: str
    mqtt: schema.Mqtt | None = None
    keys: Annotated[str, Key("a folder with the operator's keys, one PEM each; relative = this file's folder")] = "keys"
    trust: Annotated[
        str, Key("the newest trust document; all of them lie in `trust/` beside it; relative = this file's folder")
    ] = "trust.json"

    def broker(self) -> schema.Mqtt:
        """The broker. Raises EdgedError bad_config when none is named."""
        if self.mqtt is None:
            raise EdgedError("bad_config", f"{self.file} names no broker", "Write one: mqtt: {url: mqtts://BROKER}")
        return self.mqtt


# What the file is written with.
WRITTEN: Final[dict[str, Any]] = {
    name: nodes.Node if name == "mqtt" else note for name, note in keys.fields(Fleet).items() if name != "file"
}


def find(environment: Mapping[str, str] = os.environ) -> Path:
    """$EDGED_FLEET, else this user's own; root has one too, in its home."""
    named = environment.get(VARIABLE)
    if named:
        return Path(named).absolute()
    home = Path(environment.get("HOME") or "/")
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "edged/fleet.yaml"


def read(environment: Mapping[str, str] = os.environ) -> Fleet:
    """The configuration that `find` names. Raises ConfigErrors with all mistakes."""
    path = find(environment)
    reader = Reader(str(path), path.parent, environment)
    node: nodes.Node | None = nodes.Mapping({}, nodes.Line(0))
    if environment.get(VARIABLE) or path.exists():
        text = load.text_of(reader, path, missing=_MISSING)
        node = None if text is None else document.read(reader, str(path), text)
    found = {} if node is None else reader.members(node, "", Fleet, WRITTEN)
    mqtt = broker.section(reader, found.pop("mqtt"), _OPERATOR) if "mqtt" in found else None
    if reader.mistakes:
        raise reader.errors()
    fleet = Fleet(str(path), mqtt, **found)
    return msgspec.structs.replace(fleet, keys=str(path.parent / fleet.keys), trust=str(path.parent / fleet.trust))
