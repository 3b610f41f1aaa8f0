"""The section `sockets`: where edged listens, and what it asks of those who come from elsewhere (RULES 21, 22)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from edged.config import addresses, certificates, checks, files, keys, nodes, schema
from edged.config.keys import Key
from edged.config.mistakes import Refusal
from edged.config.nodes import line_of
from edged.config.reader import Reader

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what a Bearer token may be (RFC 6750, 2.1)
_TOKEN_LEAST: Final = 16
_MAKE_ONE: Final = "`openssl rand -hex 32 > FILE` makes a good one"
_FILES: Final = {
    "token_file": Annotated[
        str,
        Key(
            "a file with the token that every request to a TCP address of `http` and `grpc` has to bring; "
            f"{schema.LOOKED_UP}",
            default="none",
        ),
    ],
    "admin_token_file": Annotated[
        str,
        Key(f"a file with the token that allows control too, over TCP as well; {schema.LOOKED_UP}", default="none"),
    ],
}
# What it is written with, where that is not the struct's own fields.
WRITTEN: Final[dict[str, Any]] = {
    name: note for name, note in keys.fields(schema.Sockets).items() if name not in ("token", "admin_token")
} | _FILES


def section(reader: Reader, node: nodes.Node, default: schema.Sockets) -> schema.Sockets:
    found = reader.members(node, "sockets", schema.Sockets, WRITTEN)
    for name in _FILES:
        if name in found:
            found[name.removesuffix("_file")] = _token(reader, node, name, found.pop(name))
    if found.get("token") and found.get("token") == found.get("admin_token"):
        what = "is the same token as sockets.token_file"
        reader.refuse(line_of(node, "admin_token_file"), "sockets.admin_token_file", what, _MAKE_ONE)
    if "tls" in found:
        found["tls"] = _tls(reader, node, found["tls"])
    sockets = msgspec.structs.replace(default, **found)
    _check_twice(reader, node, sockets)
    _check_open(reader, node, sockets)
    if sockets.fast is not None:
        _check_fast(reader, node, sockets.fast.path, direct=sockets.fast.direct)
    return sockets


def check_direct(reader: Reader, node: nodes.Node, sockets: schema.Sockets, models: Iterable[schema.Model]) -> None:
    """Each model's own socket has a path of its own, which is not too long."""
    if sockets.fast is None or not sockets.fast.direct or not addresses.fast(sockets.fast.path[0]).path:
        return
    for model in models:
        try:
            checks.socket_path(sockets.fast.of(model.name))
        except ValueError as error:
            line = line_of(node, "sockets", "fast")
            reader.refuse_error(line, f"sockets.fast: {sockets.fast.of(model.name)}", error)


def _check_twice(reader: Reader, node: nodes.Node, sockets: schema.Sockets) -> None:
    """No two doors in one place; within one list the reader has seen to it."""
    taken = {f"unix:{sockets.unix}": "sockets.unix"}
    for name in ("http", "grpc", "metrics"):
        for one in getattr(sockets, name):
            if one in taken:
                where = taken[one]
                what = f"{sockets.unix} is" if where == "sockets.unix" else f"{one} is in"
                reader.refuse(line_of(node, name), f"sockets.{name}", f"{what} {where} already")
        taken |= dict.fromkeys(getattr(sockets, name), f"sockets.{name}")
    for one in sockets.fast.path if sockets.fast is not None else ():
        address = f"unix:{one}" if one.startswith("/") else one
        if address in taken:
            reader.refuse(line_of(node, "fast"), "sockets.fast", f"{one} is in {taken[address]} already")


def _check_open(reader: Reader, node: nodes.Node, sockets: schema.Sockets) -> None:
    """Whoever can be reached from elsewhere shows a certificate, and asks for a token."""
    has_tls, has_token = nodes.has(node, "tls"), nodes.has(node, "token_file")
    both = [name for name, there in (("token_file", has_token), ("tls", has_tls)) if not there]
    needs = {
        "http": both,
        "grpc": both,
        "metrics": [] if has_tls else ["tls"],
    }
    for name, missing in needs.items():
        for index, one in enumerate(getattr(sockets, name)):
            where = addresses.place(one)
            if missing and not where.local:
                words = " and ".join(f"sockets.{key}" for key in missing)
                what = f"{where.host} is not this box alone, which takes {words}"
                reader.refuse(*_item(node, name, index), what, f"did you mean 127.0.0.1:{where.port}?")


def _check_fast(reader: Reader, node: nodes.Node, path: tuple[str, ...], *, direct: bool) -> None:
    """The fast lane knows no token: over TCP it would be a way round the one that is asked for elsewhere."""
    line, instead = line_of(node, "fast"), "use a UNIX socket, such as /run/edged/fast.sock"
    if direct and not addresses.fast(path[0]).path:
        reader.refuse(line, "sockets.fast", f"direct takes a UNIX socket first, not {path[0]}", instead)
    for one in path:
        if nodes.has(node, "token_file") and not addresses.fast(one).path:
            what = f"{one}: the fast lane asks for no token, and everything else on TCP does here"
            reader.refuse(line, "sockets.fast", what, instead)


def _item(node: nodes.Node, name: str, index: int) -> tuple[int, str]:
    """Line and path of an address, which may stand alone or in a list."""
    written = node.members[name].value if isinstance(node, nodes.Mapping) and name in node.members else node
    if isinstance(written, nodes.Sequence) and index < len(written.items):
        return written.items[index].line, f"sockets.{name}[{index}]"
    return line_of(node, name), f"sockets.{name}"


def _token(reader: Reader, node: nodes.Node, name: str, file: str) -> str:
    """The file's text, which has to be a token; "" when it is none: the mistake is noted."""
    try:
        path = files.find_secret(file, reader.environment, reader.folder)
        token = files.password(path)
        if _TOKEN.fullmatch(token) is None:
            raise Refusal(f"{path} holds no token: letters, digits and ._~+/- in one line", _MAKE_ONE)
        if len(token) < _TOKEN_LEAST:
            raise Refusal(f"{path}: a token has at least {_TOKEN_LEAST} characters", _MAKE_ONE)
    except ValueError as error:
        reader.refuse_error(line_of(node, name), f"sockets.{name}", error)
        return ""
    return token


def _tls(reader: Reader, node: nodes.Node, tls: schema.Tls) -> schema.Tls:
    """With absolute paths in the place of the files' names; what TLS needs must be there."""
    if not tls.cert:
        reader.refuse(line_of(node, "tls"), "sockets.tls", "needs a cert", "and a key, if that is in a file of its own")
        return tls
    written = {name: getattr(tls, name) for name in ("cert", "key", "client_ca") if getattr(tls, name)}
    paths = {name: files.find_secret(file, reader.environment, reader.folder) for name, file in written.items()}
    good = _holds(reader, node, "cert", partial(certificates.check_certificates, paths["cert"]))
    if good:
        key = "key" if "key" in paths else "cert"
        _holds(reader, node, key, partial(certificates.check_key, paths["cert"], paths[key]))
    if "client_ca" in paths:
        _holds(reader, node, "client_ca", partial(certificates.check_certificates, paths["client_ca"]))
    return schema.Tls(**{name: str(Path(path)) for name, path in paths.items()})


def _holds(reader: Reader, node: nodes.Node, name: str, check: Callable[[], None]) -> bool:
    """Whether a file is what it has to be; says so where not."""
    try:
        check()
    except ValueError as error:
        reader.refuse_error(line_of(node, "tls", name), f"sockets.tls.{name}", error)
        return False
    return True
