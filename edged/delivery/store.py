"""The only writer of model files by their hash, and of what is known about each model, in the state directory.

    lock                        held by the one daemon that uses the directory
    state.json                  the only commit point; state.json.bak is a hard link to the one before
    trust.kept                  the newest trust document that was accepted, and the root that it has followed
    <name>.damaged              one of these as it was found when nothing could be made of it; the newest such find
    releases/<key>/             a folder of its own each, because a model file may name others beside it: model.onnx by
                                its hash for a simple push, folder.py's files by the document's hash for a release
    audit.jsonl                 is trail.py's

Order of writes: temporary name, fsync, rename, fsync of the folder. A file is durable before a record
names it, and a record is durable before anything is done about it. Everything here blocks: the daemon
calls it in a thread. After an OSError the old state holds; a restart finds it, or at worst the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import threading
from pathlib import Path
from typing import Final

import msgspec

from edged import disk
from edged.delivery import folder
from edged.delivery.documents import MODEL_FILE
from edged.delivery.record import Record
from edged.delivery.strict import LARGEST
from edged.errors import EdgedError

SCHEMA: Final = 1
DAMAGED: Final = ".damaged"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
TRUST_FILE: Final = "trust.kept"  # not trust.json: an operator who tries it all in one folder has one of that name
_LINE: Final = 65  # of TRUST_FILE, before the envelope
_LARGEST: Final = 64 * 2**20  # of state.json, whose models have a few KiB each
_CLAIMS: Final = 2  # the download under way, and the one before it, whose chunks it may use

log = logging.getLogger("edged.delivery")


class _Head(msgspec.Struct, frozen=True):
    """What every schema of state.json has."""

    schema: int = SCHEMA


class Walked(msgspec.Struct, frozen=True):
    """How far trust has come here, from the root document of this hash."""

    root: str = ""
    version: int = 0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of state.json."""

    schema: int = SCHEMA
    models: dict[str, Record] = {}
    walked: Walked = Walked()


class Newer(ValueError):
    """What a newer edged has written: whole, and not for this one to replace."""


class Store:
    """The state directory `root`. `open` first; then any thread may call the rest.

    `damaged`: what `open` could make nothing of and has set aside, in a sentence; "" where all was well.
    """

    def __init__(self, root: Path) -> None:
        self._root: Final = root
        self._releases: Final = root / "releases"
        self._state = State()
        self._staged: set[str] = set()  # on disk, or about to be, with no record yet
        self._claimed: list[str] = []  # the same for folders that are being filled, the newest last
        self._lock = threading.Lock()
        self._held: int | None = None
        self.damaged = ""

    # --- start and stop -----------------------------------------------------------------------------

    def open(self) -> dict[str, Record]:
        """Locks the directory, clears what an interrupted write left, and returns the records.

        Raises EdgedError `state_in_use` when another daemon has it, `bad_store` when it is a newer edged's, OSError
        when it, or the state in it, cannot be used: what cannot be read is not forgotten, and nothing is changed.
        """
        self._releases.mkdir(mode=0o750, parents=True, exist_ok=True)
        held = disk.open_file(self._root / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(held)
            raise EdgedError("state_in_use", f"another edged uses {self._root}") from error
        self._held = held
        known = self._read()
        self._state = known or State()
        for stray in [*self._root.glob("*.tmp"), *self._releases.glob("*/.*.tmp")]:
            stray.unlink(missing_ok=True)
        if known is not None:  # else nobody knows which files matter
            self.prune()
        return dict(self._state.models)

    def close(self) -> None:
        """Gives the directory back."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _read(self) -> State | None:
        """The newest state that makes sense; None when there is none. Raises OSError, EdgedError."""
        found, spoilt = None, {}
        for name in ("state.json", "state.json.bak"):
            try:
                found = decode(disk.read(self._root / name, _LARGEST))
                break
            except FileNotFoundError:
                continue
            except Newer as error:
                text = f"{self._root / name} cannot be used: {error}"
                raise EdgedError("bad_store", text, "Run the edged that wrote it, or a newer one.") from error
            except ValueError as error:
                spoilt[name] = f"{name} was damaged ({error}) and is {name}{DAMAGED} now"
        if spoilt:
            what = "the state before it holds" if found else "what was known of the models, holds and wants is lost"
            self.damaged = f"{', '.join(spoilt.values())}: {what}"
            log.error("%s", self.damaged, extra={"code": "bad_store"})
        for name in spoilt:
            self.set_aside(name)
        return found

    def set_aside(self, name: str) -> None:
        """Keeps a file that nothing can be made of for whoever can; the one that was kept before goes."""
        (self._root / name).replace(self._root / f"{name}{DAMAGED}")

    # --- records ------------------------------------------------------------------------------------

    def commit(self, model: str, record: Record) -> None:
        """Makes `record` what a restart will find. Raises OSError: then it will find what was there before."""
        with self._lock:
            self._write(msgspec.structs.replace(self._state, models={**self._state.models, model: record}))
            self._staged -= record.needs()
            self._claimed = [key for key in self._claimed if key not in record.needs()]
            disk.sync_folder(self._root)

    def _write(self, state: State) -> None:
        current, backup = self._root / "state.json", self._root / "state.json.bak"
        written = disk.write(self._root / "state.json.tmp", msgspec.json.format(msgspec.json.encode(state)))
        with contextlib.suppress(FileNotFoundError):
            link = self._root / "state.json.bak.tmp"
            link.unlink(missing_ok=True)
            link.hardlink_to(current)
            link.replace(backup)
            link.unlink(missing_ok=True)  # rename(2) of two links to one file does nothing
        written.replace(current)
        self._state = state

    def record(self, model: str) -> Record:
        """What is known about a model; an empty record where that is nothing."""
        with self._lock:
            return self._state.models.get(model, Record())

    @property
    def walked(self) -> Walked:
        """How far trust has come, which no restart may fall behind."""
        return self._state.walked

    def walk(self, root: str, version: int) -> None:
        """Keeps that it has come so far from this root, and never less far. Raises OSError."""
        with self._lock:
            now = self._state.walked
            if now.root != root or now.version < version:
                self._write(msgspec.structs.replace(self._state, walked=Walked(root, version)))
                disk.sync_folder(self._root)

    def keep_trust(self, root: str, version: int, envelope: bytes) -> None:
        """Keeps a trust document that has followed this root, in place of the one before. Raises OSError."""
        with self._lock:
            content = b"%s\n%s" % (root.encode(), envelope)
            disk.write(self._root / f"{TRUST_FILE}.tmp", content).replace(self._root / TRUST_FILE)
            disk.sync_folder(self._root)
        self.walk(root, version)  # a stop in between leaves a document that says more than it has to

    def trust(self) -> bytes | None:
        """What `keep_trust` wrote last: the root's hash, a newline, the envelope.

        Raises OSError where it cannot be read, ValueError where it is longer than any.
        """
        try:
            return disk.read(self._root / TRUST_FILE, LARGEST + _LINE)
        except FileNotFoundError:
            return None

    # --- files --------------------------------------------------------------------------------------

    def folder(self, key: str) -> Path:
        """Where the files of a release are, or would be."""
        return self._releases / key

    def path(self, key: str) -> Path:
        """Where its model file is, or would be."""
        return self._releases / key / MODEL_FILE

    def document(self, key: str) -> bytes | None:
        """The envelope of a signed release that is here, whole or not."""
        return folder.document(self.folder(key))

    def intact(self, key: str) -> bool:
        """Whether all files are there and still have their hash."""
        return folder.is_whole(self.folder(key), key)

    def stage(self, payload: bytes) -> str:
        """Stores a simple push and returns its hash; it is durable then. Raises OSError; `is_full` tells which kind.

        Space for all of it is reserved before its first byte is written. It stays until a record that
        names it no longer does, or until `discard`.
        """
        sha256 = hashlib.sha256(payload).hexdigest()
        with self._lock:
            self._staged.add(sha256)
        if self.intact(sha256):
            return sha256
        final = self.path(sha256)
        try:
            final.parent.mkdir(mode=0o750, exist_ok=True)
            disk.write(final.with_name(f".{MODEL_FILE}.tmp"), payload, mode=0o440).replace(final)
            disk.sync_folder(final.parent)
            disk.sync_folder(self._releases)
        except OSError:
            self.discard(sha256)
            raise
        return sha256

    def claim(self, key: str) -> list[Path]:
        """A folder is about to be filled, and stays until a record that names it no longer does, until `discard`, or
        until two others are claimed after it. Returns the folders of other releases, the newest first.
        """
        with self._lock:
            self._claimed = [*(one for one in self._claimed if one != key), key][-_CLAIMS:]
            others = [path for path in self._releases.iterdir() if path.name != key and _HASH.fullmatch(path.name)]
            return sorted(others, key=_changed_s, reverse=True)

    def make_room(self, key: str) -> None:
        """Removes what neither a record nor this download needs."""
        with self._lock:
            self._claimed = [key]
        self.prune()

    def discard(self, key: str) -> None:
        """A folder that gets no record after all."""
        with self._lock:
            self._staged.discard(key)
            self._claimed = [one for one in self._claimed if one != key]
        self.prune()

    def prune(self) -> None:
        """Removes every release that no record names; what cannot be removed is left for the next start."""
        with self._lock:
            kept = {key for record in self._state.models.values() for key in record.needs()}
            kept |= self._staged | set(self._claimed)
            try:
                for path in list(self._releases.iterdir()):
                    if path.name not in kept and _HASH.fullmatch(path.name):
                        _remove(path)
            except OSError as error:
                log.warning("%s cannot be cleared: %s", self._releases, error)


def decode(content: bytes) -> State:
    """state.json's bytes as a State. Raises Newer for a newer schema, ValueError for anything else."""
    try:
        schema = msgspec.json.decode(content, type=_Head).schema
        if schema > SCHEMA:
            raise Newer(f"it has schema {schema}, this edged knows {SCHEMA}")
        state = msgspec.json.decode(content, type=State)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if state.schema != SCHEMA:
        raise ValueError(f"schema {state.schema}, this edged knows {SCHEMA}")
    for record in state.models.values():
        # Hashes become names of folders: nothing but hashes may get there.
        if not all(_HASH.fullmatch(sha256) for sha256 in record.needs()):
            raise ValueError("a hash that is none")
        record.check()
    return state


def _changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _remove(path: Path) -> None:
    try:
        disk.remove_folder(path)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)
