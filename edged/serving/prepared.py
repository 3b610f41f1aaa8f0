"""The cache of prepared models: what onnxruntime makes of a model file for this box's CPU, to be loaded instead of it.

    <cache>/prepared/<sha256 of the model file>-<what else it depends on>/
        model.onnx weights.bin      written by a process that does nothing else; 0440, never changed afterwards
        SHA256SUMS                  as sha256sum writes it; looked at before the first load, and when a file changed

The weights are mapped from disk, so that all processes share them (docs/adr/0012). It is only a cache: whatever is
wrong with it, the model is loaded from its own file. Temporary name, fsync, rename, as in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import platform
import shutil
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import edged
from edged.errors import EdgedError
from edged.worker.library import onnxruntime_version
from edged.worker.prepared import PREPARED_MODEL, PREPARED_WEIGHTS, largest_prepared

SMALLEST: Final = 2**20  # a model file below: packing it anew takes a few milliseconds, and its weights are little
_FILES: Final = (PREPARED_MODEL, PREPARED_WEIGHTS)
_SUMS: Final = "SHA256SUMS"
_ROOM: Final = 64 * 2**20  # bytes that stay free on the disk
_REMEMBERED: Final = 256

log = logging.getLogger("edged.serving")

Prepare = Callable[[Path], Awaitable[None]]
_Stat = tuple[int, int, int, int]


class PreparedModels:
    """The cache under `folder`. `in_use` gives the hashes of the models that run: what else there is gets removed.

    One form is made at a time, as making one takes as much memory as loading the model; what is there already, or not
    to be had, does not wait for that.
    """

    def __init__(self, folder: Path, *, depends_on: str | None = None) -> None:
        self.in_use: Callable[[], frozenset[str]] = frozenset
        self._folder: Final = folder / "prepared"
        self._kind: Final = fingerprint() if depends_on is None else depends_on
        self._turn = asyncio.Lock()
        self._hopeless: set[str] = set()  # no second try before the next start of the daemon
        self._seen: dict[Path, _Stat] = {}  # files whose hash was right, as they were then

    async def path(self, sha256: str, file: str, prepare: Prepare) -> str:
        """The prepared form of `file`, whose hash is `sha256`; made with `prepare(folder)` where there is none.

        "" when there is none: the model is small, the disk is full or read-only, or `prepare` raised EdgedError.
        """
        if not self._kind or not sha256:
            return ""
        entry = self._entry(sha256)
        try:
            if await asyncio.to_thread(self._intact, entry):
                return str(entry / PREPARED_MODEL)
            if sha256 in self._hopeless or not await asyncio.to_thread(self._worth, Path(file)):
                return ""
            async with self._turn:
                if not await asyncio.to_thread(self._intact, entry):  # else another model of this file has made it
                    await self._make(entry, sha256, Path(file), prepare)
            return str(entry / PREPARED_MODEL)
        except OSError as error:
            log.warning("no prepared model: %s: %s", error.filename or self._folder, error.strerror or error)
        except EdgedError as error:
            log.warning("the model %.12s cannot be prepared: %s", sha256, error.fault.message)
        self._give_up(sha256)
        return ""

    async def _make(self, entry: Path, sha256: str, file: Path, prepare: Prepare) -> None:
        before = await asyncio.to_thread(_stat, file)
        making = await asyncio.to_thread(self._begin, entry)
        try:
            await prepare(making)
            await asyncio.to_thread(self._adopt, making, entry, file, sha256, before)
        finally:
            shutil.rmtree(making, ignore_errors=True)  # at most three files
        log.info("prepared the model %.12s for this box's CPU: %s", sha256, entry)
        await asyncio.to_thread(self.prune, self.in_use() | {sha256})

    async def distrust(self, sha256: str) -> None:
        """Removes a form that could not be loaded, and makes no other one."""
        self._give_up(sha256)
        await asyncio.to_thread(shutil.rmtree, self._entry(sha256), ignore_errors=True)

    def _give_up(self, sha256: str) -> None:
        if len(self._hopeless) >= _REMEMBERED:
            self._hopeless.clear()
        self._hopeless.add(sha256)

    # --- on disk; blocking --------------------------------------------------------------------------

    def prune(self, keep: frozenset[str]) -> None:
        """Removes every form but those of the models with these hashes, made for this onnxruntime and CPU."""
        kept = {self._entry(sha256).name for sha256 in keep}
        with contextlib.suppress(OSError):  # nothing there, or not ours: nothing is lost
            for entry in list(self._folder.iterdir()):
                if entry.name not in kept:
                    shutil.rmtree(entry, ignore_errors=True)
        self._seen = {path: seen for path, seen in self._seen.items() if path.parent.name in kept}

    def _entry(self, sha256: str) -> Path:
        return self._folder / f"{sha256}-{self._kind}"

    def _worth(self, file: Path) -> bool:
        size = file.stat().st_size
        if size < SMALLEST:
            return False
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        if shutil.disk_usage(self._folder).free < 2 * size + _ROOM:
            log.warning("no room on %s to prepare a model of %d bytes", self._folder, size)
            return False
        return True

    def _begin(self, entry: Path) -> Path:
        making = entry.with_name(f"{entry.name}.tmp")
        for stray in (making, entry):
            shutil.rmtree(stray, ignore_errors=True)
        making.mkdir(mode=0o750)
        return making

    def _adopt(self, making: Path, entry: Path, file: Path, sha256: str, before: _Stat) -> None:
        """Takes what was written: regular files of a sensible size, made from the file that was meant."""
        if _hash(file) != sha256 or _stat(file) != before:
            raise EdgedError("bad_store", f"{file} was changed meanwhile")
        for name in _FILES:
            with contextlib.suppress(FileExistsError):  # a model without large weights has no second file
                (making / name).touch(exist_ok=False)
            found = (making / name).lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise EdgedError("bad_store", f"{name} is no file of its own")
            if found.st_size > largest_prepared(before[1]):
                raise EdgedError("bad_store", f"{name} has {found.st_size} bytes")
        sums = {name: _hash(making / name) for name in _FILES}
        (making / _SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
        for name in (*_FILES, _SUMS):
            _settle(making / name, 0o440)
        _settle(making, None)
        making.replace(entry)
        _settle(self._folder, None)

    def _intact(self, entry: Path) -> bool:
        """Whether both files are what they were; they are read when they are new to us or look different."""
        try:
            wanted = dict(line.split("  ")[::-1] for line in (entry / _SUMS).read_text().splitlines())
            for name in _FILES:
                path = entry / name
                seen = _stat(path)
                if self._seen.get(path) != seen:
                    if _hash(path) != wanted[name]:
                        log.warning("%s is damaged; the model is loaded from its own file", path)
                        return False
                    self._seen[path] = seen
        except FileNotFoundError:
            return False
        except (ValueError, KeyError):
            log.warning("%s is damaged", entry / _SUMS)
            return False
        return True


def fingerprint() -> str:
    """What a prepared form depends on besides its model: edged, onnxruntime and this CPU's abilities; "" unknown."""
    library = onnxruntime_version()
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        cpuinfo = ""
    if not library or not cpuinfo:
        return ""
    abilities = {line for line in cpuinfo.splitlines() if line.startswith(("flags", "Features", "CPU part"))}
    parts = (edged.__version__, library, platform.machine(), *sorted(abilities))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stat(path: Path) -> _Stat:
    """Which file this is, its size, and when it was changed last: a write shows in one of them."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _settle(path: Path, mode: int | None) -> None:
    """Makes what is written durable, and unwritable where a mode is given."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if mode is not None:
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
