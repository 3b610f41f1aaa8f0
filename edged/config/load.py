"""From a YAML file and its drop-ins, or from `--model NAME=FILE`, to a checked Config.

`load` depends on nothing but the files and the environment it is given, and two Configs are equal when
they mean the same: a reload reads both again and compares. It raises ConfigErrors with every mistake of
every file at once.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import UNSET

from edged.config import checks, document, files, keys, nodes, schema, sections
from edged.config.mistakes import ConfigErrors, Mistake
from edged.config.nodes import Line
from edged.config.overlay import overlay
from edged.config.places import places
from edged.config.reader import Reader

_LARGEST: Final = 2**20
_DROP_INS: Final = "conf.d"
_MISSING: Final = "name another with --config; `edged run --model NAME=FILE` needs none"
_MOST_DROP_INS: Final = 100  # a guard: a folder of something else
# Keys that name a file with a secret in it; a certificate's file has its key in it where that has none of its own.
_SECRETS: Final = (
    *(f"{broker}.{key}" for broker in ("mqtt", "push.mqtt") for key in ("password_file", "key")),
    *(f"sockets.{key}" for key in ("token_file", "admin_token_file", "tls.key")),
)


def find(path: str | None) -> Path:
    """The configuration's file: the one named, else this user's."""
    return Path(path) if path else places().config


def load(path: str | Path, environment: Mapping[str, str] = os.environ, *, need_models: bool = True) -> schema.Config:
    """The configuration in `path` and in `conf.d/*.yaml` beside it. Raises ConfigErrors with all mistakes.

    Without `need_models` a model's file may be missing: a box starts with what it has, and the model is
    reported failed, or runs a version that was pushed.
    """
    found, mistakes = examine(path, environment, need_models=need_models)
    if mistakes or found is None:
        raise ConfigErrors(str(path), mistakes)
    return found


def examine(
    path: str | Path, environment: Mapping[str, str] = os.environ, *, need_models: bool = True
) -> tuple[schema.Config | None, list[Mistake]]:
    """What can be used of a configuration, for `edged check` to try, and all mistakes.

    What cannot be used has its default. None: a file is no YAML, and nothing can be said of what it would change.
    """
    file = Path(path)
    reader = Reader(str(path), file.absolute().parent, environment, need_models=need_models)
    root = _document(reader, file)
    return None if root is None else sections.config(reader, root), reader.mistakes


def files_of(path: str | Path) -> list[Path]:
    """The file and its drop-ins, in the order in which they are laid on each other."""
    file = Path(path)
    return [file, *_drop_ins(Reader(str(path), file.absolute().parent, {}), file)]


def line_of(path: str | Path, key: str) -> Line:
    """Where `models.digits.preprocess[1]` stands, for mistakes that show only later; line 0 when it does not."""
    file = Path(path)
    found = _at(_document(Reader(str(path), file.absolute().parent, {}), file), key)
    return Line(0, str(path)) if found is None else found.line


def unix_socket(path: str | Path, environment: Mapping[str, str] = os.environ) -> str:
    """The socket on which the daemon of a configuration answers commands; nothing else of it need be valid.

    Raises ConfigErrors where the file cannot be read, or says no socket that can be.
    """
    file = Path(path)
    reader = Reader(str(path), file.absolute().parent, environment)
    root = _document(reader, file)
    written = _at(root, "sockets.unix")
    found = sections.default_sockets(reader).unix if root is not None else UNSET
    if written is not None:
        found = reader.value(written.value, "sockets.unix", keys.fields(schema.Sockets)["unix"])
    if found is UNSET:
        raise reader.errors()
    return found


def secret_files(path: str | Path, environment: Mapping[str, str] = os.environ) -> list[Path]:
    """The files with passwords, tokens and keys that a configuration names, whether they are there or not."""
    file = Path(path)
    reader = Reader(str(path), file.absolute().parent, environment)
    root = _document(reader, file)
    found = []
    for key in _SECRETS:
        written = _at(root, key) or (_at(root, key.removesuffix("key") + "cert") if key.endswith(".key") else None)
        name = UNSET if written is None else reader.value(written.value, key, str)
        if name is not UNSET:
            found.append(files.find_secret(name, environment, reader.folder))
    return list(dict.fromkeys(found))


def _at(node: nodes.Node | None, key: str) -> nodes.Member | None:
    """What stands at `sockets.tls.key` or `models.digits.preprocess[1]` below `node`."""
    found = None
    for name, index in re.findall(r"([^.\[]+)|\[([0-9]+)\]", key):
        if isinstance(node, nodes.Mapping) and name in node.members:
            found = node.members[name]
        elif isinstance(node, nodes.Sequence) and index and int(index) < len(node.items):
            found = nodes.Member(node.items[int(index)].line, node.items[int(index)])
        else:
            return None
        node = found.value
    return found


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
    empty = sections.config(reader, nodes.Mapping({}, Line(0)))
    if reader.mistakes:
        raise reader.errors()
    return schema.Config(device=empty.device, sockets=empty.sockets, models=tuple(found))


def _document(reader: Reader, file: Path) -> nodes.Node | None:
    """The file with its drop-ins laid over it, in name order; None when one of them cannot be read."""
    roots: list[nodes.Node | None] = []
    for one in [file, *_drop_ins(reader, file)]:
        text = text_of(reader, one)
        root = None if text is None else document.read(reader, str(one), text)
        if one != file and root is not None:
            # The first file's own is the reader's to refuse; here it would replace everything.
            root = _keys(reader, root)
        roots.append(root)
    read = [root for root in roots if root is not None]
    return functools.reduce(overlay, read) if len(read) == len(roots) else None


def _keys(reader: Reader, root: nodes.Node) -> nodes.Node | None:
    if isinstance(root, nodes.Mapping) or (isinstance(root, nodes.Scalar) and root.empty):
        return root
    if not isinstance(root, nodes.Broken):  # else it is noted already
        reader.refuse(root.line, "", f"expected keys and values, found {nodes.describe(root)}")
    return None


def _drop_ins(reader: Reader, file: Path) -> list[Path]:
    """`conf.d/*.yaml` beside the file, in name order; hidden files and editors' copies are none."""
    folder = file.parent / _DROP_INS
    try:
        found = sorted(one for one in folder.iterdir() if not one.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        refusal = files.unreadable(folder, error)
        what = "is no folder" if isinstance(error, NotADirectoryError) else str(refusal).removeprefix(f"{folder} ")
        reader.refuse(Line(0, str(folder)), "", what, refusal.hint)
        return []
    for one in found:
        if one.suffix == ".yml":
            reader.refuse(Line(0, str(one)), "", "is not read", f"rename it to {one.stem}.yaml")
    found = [one for one in found if one.suffix == ".yaml"]
    if len(found) > _MOST_DROP_INS:
        reader.refuse(Line(0, str(folder)), "", f"has more than {_MOST_DROP_INS} files: no drop-ins")
        return []
    return found


def text_of(reader: Reader, file: Path, *, missing: str = _MISSING) -> str | None:
    """The file as text, or None with the reason noted; `missing` is what to do when it is the main one."""
    whole = Line(0, str(file))
    main = whole.file == reader.file
    try:
        if not main and not stat.S_ISREG(file.stat().st_mode):  # a pipe would wait for somebody to write
            reader.refuse(whole, "", "is no file")
            return None
        content = files.beginning(file, _LARGEST + 1)
    except OSError as error:
        refusal = files.unreadable(file, error)
        hint = missing if main else ""
        # The file is named in front of the mistake already.
        reader.refuse(whole, "", str(refusal).removeprefix(f"{file} "), refusal.hint or hint)
        return None
    if len(content) > _LARGEST:
        reader.refuse(whole, "", f"is above {_LARGEST >> 20} MiB: no configuration")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = Line(content.count(b"\n", 0, error.start) + 1, str(file))
        reader.refuse(line, "", "is no text in UTF-8", "save it as UTF-8")
        return None


__all__ = [
    "ConfigErrors",
    "Mistake",
    "examine",
    "files_of",
    "find",
    "from_models",
    "line_of",
    "load",
    "secret_files",
    "text_of",
    "unix_socket",
]
