"""The only writer of model files by their hash, and of what is known about each model, in the state directory.

    lock                        held by the one daemon that uses the directory
    state.json                  the only commit point; state.json.bak is a hard link to the one before
    releases/<sha256>/model.onnx    0440, never changed once it has this name; a folder of its own, because
                                    a model file may name others beside it
    audit.jsonl                 is trail.py's

Order of writes: temporary name, fsync, rename, fsync of the folder. A file is durable before a record
names it, and a record is durable before anything is done about it. Everything here blocks: the daemon
calls it in a thread. After an OSError the old state holds; a restart finds it, or at worst the new one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import threading
from pathlib import Path
from typing import Final

import msgspec

from edged.delivery.rollout import Record
from edged.errors import EdgedError

SCHEMA: Final = 1
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_FILE: Final = "model.onnx"
_BLOCK: Final = 2**20
# What a full disk, a quota and a file size limit say (posix_fallocate(3), setrlimit(2)).
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# A file system that cannot reserve space: the write itself then says that it is full.
_CANNOT_RESERVE: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})

log = logging.getLogger("edged.delivery")


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of state.json."""

    schema: int = SCHEMA
    models: dict[str, Record] = {}


class Store:
    """The state directory `root`. `open` first; then any thread may call the rest."""

    def __init__(self, root: Path) -> None:
        self._root: Final = root
        self._releases: Final = root / "releases"
        self._state = State()
        self._staged: set[str] = set()  # on disk, or about to be, with no record yet
        self._lock = threading.Lock()
        self._held: int | None = None

    # --- start and stop -----------------------------------------------------------------------------

    def open(self) -> dict[str, Record]:
        """Locks the directory, clears what an interrupted write left, and returns the records.

        Raises EdgedError `state_in_use` when another daemon has it, OSError when it cannot be used.
        """
        self._releases.mkdir(mode=0o750, parents=True, exist_ok=True)
        held = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(held)
            raise EdgedError("state_in_use", f"another edged uses {self._root}") from error
        self._held = held
        known = self._read()
        self._state = known or State()
        for stray in [*self._root.glob("*.tmp"), *self._releases.glob("*/*.tmp")]:
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
        """The newest state that can be read; None when there is none, or none that makes sense."""
        for name in ("state.json", "state.json.bak"):
            try:
                return decode((self._root / name).read_bytes())
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                log.error("%s cannot be read: %s", self._root / name, error, extra={"code": "bad_store"})
        return None

    # --- records ------------------------------------------------------------------------------------

    def commit(self, model: str, record: Record) -> None:
        """Makes `record` what a restart will find. Raises OSError: then it will find what was there before."""
        with self._lock:
            state = State(models={**self._state.models, model: record})
            current, backup = self._root / "state.json", self._root / "state.json.bak"
            written = self._write(self._root / "state.json.tmp", msgspec.json.format(msgspec.json.encode(state)))
            with contextlib.suppress(FileNotFoundError):
                link = self._root / "state.json.bak.tmp"
                link.unlink(missing_ok=True)
                link.hardlink_to(current)
                link.replace(backup)
                link.unlink(missing_ok=True)  # rename(2) of two links to one file does nothing
            written.replace(current)
            self._state = state
            self._staged -= record.needs()
            sync_folder(self._root)

    def record(self, model: str) -> Record:
        """What is known about a model; an empty record where that is nothing."""
        with self._lock:
            return self._state.models.get(model, Record())

    # --- files --------------------------------------------------------------------------------------

    def path(self, sha256: str) -> Path:
        """Where the file with this hash is, or would be."""
        return self._releases / sha256 / _FILE

    def stage(self, payload: bytes) -> str:
        """Stores a file and returns its hash; it is durable then. Raises OSError; `is_full` tells which kind.

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
            written = self._write(final.with_name(f"{_FILE}.tmp"), payload, mode=0o440)
            written.replace(final)
            sync_folder(final.parent)
            sync_folder(self._releases)
        except OSError:
            self.discard(sha256)
            raise
        return sha256

    def discard(self, sha256: str) -> None:
        """A staged file that gets no record after all."""
        with self._lock:
            self._staged.discard(sha256)
        self.prune()

    def intact(self, sha256: str) -> bool:
        """Whether the file with this hash is there and still has it."""
        try:
            return hash_of(self.path(sha256)) == sha256
        except OSError:
            return False

    def prune(self) -> None:
        """Removes every release that no record names; what cannot be removed is left for the next start."""
        with self._lock:
            kept = {sha256 for record in self._state.models.values() for sha256 in record.needs()}
            kept |= self._staged
            try:
                for folder in list(self._releases.iterdir()):
                    if folder.name not in kept and _HASH.fullmatch(folder.name):
                        _remove(folder)
            except OSError as error:
                log.warning("%s cannot be cleared: %s", self._releases, error)

    def _write(self, path: Path, content: bytes, mode: int = 0o640) -> Path:
        """A new, durable file; nothing is left of it when that fails."""
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                _reserve(descriptor, len(content))
                view = memoryview(content)
                while view:
                    view = view[file.write(view) :]
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path


def decode(content: bytes) -> State:
    """state.json's bytes as a State. Raises ValueError for anything else, a newer schema included."""
    try:
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


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_full(error: OSError) -> bool:
    """Whether the disk, a quota or a size limit is what stands in the way."""
    return error.errno in _FULL


def _reserve(descriptor: int, size: int) -> None:
    if not size:
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    try:
        for entry in list(folder.iterdir()):
            entry.unlink(missing_ok=True)
        folder.rmdir()
    except OSError as error:
        log.warning("%s cannot be removed: %s", folder, error)
