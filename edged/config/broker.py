"""The sections `mqtt` and `push.mqtt`: the broker, who we are there, and the files that this takes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from msgspec import UNSET

from edged.config import addresses, certificates, files, identity, keys, nodes, schema
from edged.config.keys import Key
from edged.config.nodes import has, line_of
from edged.config.reader import Reader, make

_PASSWORD_FILE: Final = Annotated[
    str,
    Key(f"a file with the password; {schema.LOOKED_UP}", default="none"),
]
# What it is written with, where that is not the struct's own fields.
WRITTEN: Final[dict[str, Any]] = {**keys.fields(schema.Mqtt), "password_file": _PASSWORD_FILE}
# The same for the broker of pushes: what is kept for us is no matter there.
OF_PUSHES: Final = {name: note for name, note in WRITTEN.items() if name not in ("session", "base", "outbox")}
_Broker = TypeVar("_Broker", bound=schema.Mqtt)


def section(reader: Reader, node: nodes.Node, device: str) -> schema.Mqtt | None:
    return _section(reader, node, "mqtt", device, schema.Mqtt, WRITTEN)


def of_pushes(reader: Reader, node: nodes.Node, device: str) -> schema.Courier | None:
    return _section(reader, node, "push.mqtt", device, schema.Courier, OF_PUSHES)


def _section(
    reader: Reader, node: nodes.Node, path: str, device: str, kind: type[_Broker], written: Mapping[str, Any]
) -> _Broker | None:
    found = reader.members(node, path, kind, written, required=("url",))
    if found.get("url") == ():
        reader.refuse(line_of(node, "url"), f"{path}.url", "needs at least one address", "such as mqtt://broker.plant")
        del found["url"]
    if "password_file" in found:
        _read_password(reader, node, path, found)
    if found.get("password") and not found.get("username"):
        where = "password" if has(node, "password") else "password_file"
        reader.refuse(line_of(node, where), f"{path}.{where}", "there is no username for it", f"add {path}.username")
    _certificates(reader, node, path, found)
    found.setdefault("client_id", identity.client_id(device, socket.gethostname()))
    mqtt: Any = make(kind, found)
    return None if mqtt is UNSET else mqtt


def _certificates(reader: Reader, node: nodes.Node, path: str, found: dict[str, Any]) -> None:
    """Puts absolute paths in the place of the files' names, and looks into them: what TLS needs must be there."""
    written = [name for name in ("ca", "cert", "key") if found.get(name)]
    if "url" in found and not any(addresses.broker(url).tls for url in found["url"]):
        for name in written:
            hint = f"did you mean mqtts:// or wss:// in {path}.url?"
            reader.refuse(line_of(node, name), f"{path}.{name}", "has no use without TLS", hint)
        return
    for name in written:
        found[name] = str(files.find_secret(found[name], reader.environment, reader.folder))
    good = {
        name: _holds(reader, node, path, name, partial(certificates.check_certificates, Path(found[name])))
        for name in ("ca", "cert")
        if name in written
    }
    if "key" in written and "cert" not in written:
        reader.refuse(line_of(node, "key"), f"{path}.key", "there is no certificate for it", f"add {path}.cert")
    elif good.get("cert"):
        name = "key" if "key" in written else "cert"
        _holds(reader, node, path, name, partial(certificates.check_key, Path(found["cert"]), Path(found[name])))


def _holds(reader: Reader, node: nodes.Node, path: str, name: str, check: Callable[[], None]) -> bool:
    """Whether a file of the broker's section is what it has to be; says so where not."""
    try:
        check()
    except ValueError as error:
        reader.refuse_error(line_of(node, name), f"{path}.{name}", error)
        return False
    return True


def _read_password(reader: Reader, node: nodes.Node, path: str, found: dict[str, Any]) -> None:
    """Puts the file's password in the place of its name."""
    name, line = found.pop("password_file"), line_of(node, "password_file")
    if has(node, "password"):
        reader.refuse(line, f"{path}.password_file", "there is a password beside it", "keep one of the two")
        return
    try:
        found["password"] = files.password(files.find_secret(name, reader.environment, reader.folder))
    except ValueError as error:
        reader.refuse_error(line, f"{path}.password_file", error)
