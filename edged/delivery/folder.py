"""A release's folder in the store: what is in it, and how its files come into it.

    release.json    the signed envelope; there before anything is fetched
    .NAME.part      a file under way: all of its space is taken, each chunk lies where it belongs
    NAME            0440; whole and durable since it has this name, and never changed

Nothing else is kept of a file under way: after a cut its chunks are hashed anew and compared with the index, which
no bitmap could be believed about. Everything blocks; a download is used by one thread at a time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from edged import disk
from edged.delivery import documents, envelope
from edged.delivery.chunks import read_index, size_of
from edged.delivery.documents import HASH_SIZE, MODEL_FILE, RELEASE_FILE, File, Release
from edged.delivery.strict import LARGEST, Malformed

SYNC: Final = 4 * 2**20  # bytes between two fdatasyncs: what a cut can take of a download
MARGIN: Final = 4 * 2**20  # bytes that a download leaves to state.json, the audit, the results that wait for a broker
REUSE_S: Final = 30.0  # for looking through the files of other releases


def document(folder: Path) -> bytes | None:
    """The release's envelope; None for a folder of a simple push, or one that cannot be read."""
    try:
        return disk.read(folder / RELEASE_FILE, LARGEST)
    except (OSError, ValueError):
        return None


def keep_document(folder: Path, content: bytes) -> None:
    """Makes the folder, and the envelope in it, durable."""
    folder.mkdir(mode=0o750, exist_ok=True)
    if document(folder) != content:
        disk.write(folder / f".{RELEASE_FILE}.tmp", content, 0o440).replace(folder / RELEASE_FILE)
        disk.sync_folder(folder)
    disk.sync_folder(folder.parent)


def is_whole(folder: Path, key: str) -> bool:
    """Whether all that `key` stands for is there and is what it has to be: each file of a release, or the one model
    file of a simple push, which is named by its own hash.
    """
    try:
        content = disk.read(folder / RELEASE_FILE, LARGEST)
    except FileNotFoundError:
        return _has(folder / MODEL_FILE, key)
    except (OSError, ValueError):
        return False
    try:
        signed = envelope.decode(content, "release")
        files = documents.read_release(signed.payload).files
    except Malformed:
        return False
    return signed.sha256 == key and all(_has(folder / name, file.sha256) for name, file in files.items())


class _Part:
    """A file under way. `lacks`: positions of chunks that are not there yet, once its index is known."""

    def __init__(self, folder: Path, name: str, file: File) -> None:
        self.file: Final = file
        self.final: Final = folder / name
        self.path: Final = folder / f".{name}.part"
        self.descriptor: Final = disk.open_file(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        self.is_new = os.fstat(self.descriptor).st_size == 0
        self.hashes: tuple[str, ...] = (file.sha256,) if file.count == 1 else ()
        self.unsynced = 0

    def reserve(self) -> None:
        os.ftruncate(self.descriptor, min(self.file.size, os.fstat(self.descriptor).st_size))
        disk.reserve(self.descriptor, self.file.size)
        os.ftruncate(self.descriptor, self.file.size)

    def lacks(self) -> list[int]:
        """Positions whose chunk is not what the index says; all of them for a new file."""
        if self.is_new or not self.file.size:
            return list(range(self.file.count)) if self.file.size else []
        found = [hashlib.sha256(block).hexdigest() for block in _blocks(self.descriptor, self.file.chunk)]
        found += [""] * (self.file.count - len(found))
        return [at for at, sha256 in enumerate(self.hashes) if found[at] != sha256]

    def write(self, position: int, content: bytes) -> None:
        disk.write_at(self.descriptor, content, position * self.file.chunk)
        self.unsynced += len(content)
        if self.unsynced >= SYNC:
            os.fdatasync(self.descriptor)
            self.unsynced = 0

    def is_whole(self) -> bool:
        return disk.hash_of_open(self.descriptor) == self.file.sha256

    def put(self) -> None:
        """Durable, then under its name."""
        os.fchmod(self.descriptor, 0o440)
        os.fsync(self.descriptor)
        self.path.replace(self.final)


class Download:
    """The files of `release` on their way into `folder`. `others` are folders of the store whose files may lend what
    they have, `lenders` files from elsewhere, which are copied from and never linked to.

    `begin`, then each index in `indexes` to `take`, then `place`, perhaps `reuse`, then each chunk in `missing` to
    `take`, then `finish`; `close` in the end. All raise OSError, and Malformed where the release contradicts itself.
    """

    def __init__(
        self, folder: Path, release: Release, others: Sequence[Path] = (), lenders: Sequence[Path] = ()
    ) -> None:
        self._folder: Final = folder
        self._files: Final = release.files
        self._others: Final = others
        self._beside: Final = lenders
        self._parts: list[_Part] = []
        self._places: dict[str, list[tuple[_Part, int]]] = {}
        self._lock: Final = threading.Lock()
        self.stopped: Final = threading.Event()
        self.total: Final = release.size
        self.lacking = release.size  # bytes that are not there yet
        self.reused = 0  # chunks that came from other releases
        self.damaged = 0  # blobs that came and were not what their name says
        self.answered = False  # whoever has blobs that the broker lacks has sent some

    def begin(self, content: bytes) -> None:
        """Stores the envelope, takes over what is whole already, and reserves the space of all the rest.

        When that is not to be had, what was taken for it is given back.
        """
        with self._lock:
            if self.stopped.is_set():
                return
            keep_document(self._folder, content)
            left = dict(self._files)
            for name, file in self._files.items():
                if not documents.is_file_name(name):
                    raise Malformed(f"{name[:70]!r} is no name of a file")
                if _has(self._folder / name, file.sha256) or self._link(name, file):
                    del left[name]
            self.lacking = sum(file.size for file in left.values())
            try:
                self._reserve(left)
            except OSError:
                self._leave(lambda part: part.is_new)
                raise
            self._put([part for part in self._parts if not part.is_new])

    def indexes(self) -> dict[str, int]:
        """The indexes that are missing, with their sizes."""
        return {part.file.index: part.file.count * HASH_SIZE for part in self._parts if not part.hashes}

    def place(self) -> None:
        """Compares what is there with the indexes; `missing` is the rest."""
        with self._lock:
            self._places, self.lacking = {}, 0
            for part in self._parts:
                for position in part.lacks():
                    self._places.setdefault(part.hashes[position], []).append((part, position))
                    self.lacking += size_of(part.file, position)
        for places in self._places.values():
            if len({size_of(part.file, position) for part, position in places}) > 1:
                raise Malformed("one hash stands for chunks of different sizes")

    def missing(self) -> dict[str, int]:
        """The chunks that are missing, with their sizes."""
        return {sha256: size_of(places[0][0].file, places[0][1]) for sha256, places in self._places.items()}

    def reuse(self, now_s: Callable[[], float], limit_s: float = REUSE_S) -> None:
        """Copies chunks that files of other releases have, whole or under way; `limit_s` is how long to look."""
        until_s = now_s() + limit_s
        with self._lock:
            for size in {part.file.chunk for part in self._parts}:
                for path in itertools.chain((path.resolve() for path in self._beside), self._lenders()):
                    for block in _blocks_of(path, size):
                        if not self._places or self.stopped.is_set() or now_s() >= until_s:
                            return
                        self.reused += self._write(hashlib.sha256(block).hexdigest(), block)

    def take(self, blobs: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Puts indexes and chunks where they belong; False for each whose hash is not its name."""
        with self._lock:
            return [self._take(sha256, content) for sha256, content in blobs]

    def finish(self) -> bool:
        """Gives each file that is whole its name, durably. False: the disk has not kept all that was written, and
        `missing` says what it lost.
        """
        with self._lock:
            self._put(list(self._parts))
            disk.sync_folder(self._folder)
            disk.sync_folder(self._folder.parent)
            if not self._parts:
                return True
            for part in self._parts:
                part.is_new = False
        self.place()
        if not self._places:
            raise Malformed("the file that its index gives is not the one that it names")
        return False

    def close(self, *, drop: bool = False) -> None:
        """What is there stays, for another attempt or release; `drop`: the disk cannot be believed about it.

        Waits for a call that is under way in another thread, which whoever waited for it may have given up; one that
        comes after this does nothing.
        """
        self.stopped.set()
        with self._lock:
            self._places = {}
            self._leave(lambda _part: drop)

    # --- with the lock held -------------------------------------------------------------------------

    def _reserve(self, files: Mapping[str, File]) -> None:
        for name, file in files.items():
            self._parts.append(_Part(self._folder, name, file))
        for part in self._parts:
            part.reserve()
        if any(part.is_new for part in self._parts) and disk.free(self._folder) < MARGIN:
            raise OSError(errno.ENOSPC, "too little would be left for records and results", str(self._folder))

    def _leave(self, drop: Callable[[_Part], bool]) -> None:
        for part in self._parts:
            os.close(part.descriptor)
            if drop(part):
                with contextlib.suppress(OSError):
                    part.path.unlink()
        self._parts = []

    def _put(self, parts: Sequence[_Part]) -> None:
        """Those that are whole are under way no more, each by itself: the one behind it may fail."""
        for part in parts:
            if part.is_whole():
                part.put()
                self._parts.remove(part)
                os.close(part.descriptor)

    def _take(self, sha256: str, content: bytes) -> bool:
        if hashlib.sha256(content).hexdigest() != sha256:
            return False
        for part in self._parts:
            if not part.hashes and part.file.index == sha256:
                part.hashes = read_index(content, part.file)
        self._write(sha256, content)
        return True

    def _write(self, sha256: str, content: bytes) -> int:
        """The number of places that were waiting for it."""
        places = self._places.pop(sha256, [])
        for part, position in places:
            if len(content) != size_of(part.file, position):
                raise Malformed("a chunk has another size than its place")
            part.write(position, content)
            self.lacking -= len(content)
        return len(places)

    def _link(self, name: str, file: File) -> bool:
        """One file for two releases, where another folder has it."""
        link = self._folder / f".{name}.tmp"
        for path in self._lenders():
            try:
                if path.name.startswith(".") or path.lstat().st_size != file.size:
                    continue
                link.unlink(missing_ok=True)
                os.link(path, link, follow_symlinks=False)
            except OSError:  # a file system without links, too many of them, or it has just gone
                continue
            if _has(link, file.sha256):
                link.replace(self._folder / name)
                self.reused += file.count
                return True
            link.unlink()
        return False

    def _lenders(self) -> Iterator[Path]:
        for folder in self._others:
            try:
                found = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
            except OSError:
                continue
            yield from (path for path in found if path.name != RELEASE_FILE)


def _has(path: Path, sha256: str) -> bool:
    try:
        descriptor = disk.open_read(path)
    except OSError:
        return False
    try:
        return disk.hash_of_open(descriptor) == sha256
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _blocks(descriptor: int, size: int) -> Iterator[bytes]:
    offset = 0
    while block := os.pread(descriptor, size, offset):
        yield block
        offset += size


def _blocks_of(path: Path, size: int) -> Iterator[bytes]:
    """A file's blocks, as far as they can be read."""
    try:
        descriptor = disk.open_read(path)
    except OSError:
        return
    try:
        yield from _blocks(descriptor, size)
    except OSError:
        return
    finally:
        os.close(descriptor)
