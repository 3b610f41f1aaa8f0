"""A release as an operator has it: a folder with `release.json` and its files, looked through before a byte leaves."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, Self

import msgspec

from edged.delivery import chunks, documents, envelope, strict
from edged.delivery.documents import HASH_SIZE, RELEASE_FILE, File, Release
from edged.errors import EdgedError

_AGAIN: Final = "Make the release again."
_FILE: Final = "Make a release of it with `edged release`, or push it with `edged push --simple`."


class Blob(msgspec.Struct, frozen=True):
    """A piece by its hash: bytes `start` to `start + size` of `file`, or of the index of `file`."""

    sha256: str
    file: str
    start: int
    size: int
    index: bool = False


class Parcel(msgspec.Struct, frozen=True):
    """A release whose every hash was right when it was opened.

    `blobs`: each piece once, a file's index before its chunks; `indexes` by the file's name.
    """

    folder: Path
    content: bytes
    sha256: str
    release: Release
    blobs: tuple[Blob, ...]
    indexes: dict[str, bytes]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises EdgedError `bad_release`."""
        content = _document(folder)
        try:
            signed = envelope.decode(content, "release")
            release = documents.read_release(signed.payload)
        except strict.Malformed as error:
            raise EdgedError("bad_release", f"{folder / RELEASE_FILE}: {error}") from error
        indexes = {name: _index(folder / name, file) for name, file in release.files.items()}
        blobs = {one.sha256: one for name, file in release.files.items() for one in _cut(name, file, indexes[name])}
        return cls(folder, content, signed.sha256, release, tuple(blobs.values()), indexes)

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(one.size for one in self.blobs)

    @property
    def largest(self) -> int:
        """Bytes of the largest blob."""
        return max(one.size for one in self.blobs)

    def read(self, blob: Blob) -> bytes:
        """Raises EdgedError `bad_release` when the file is another one by now."""
        if blob.index:
            return self.indexes[blob.file]
        path = self.folder / blob.file
        try:
            with path.open("rb") as file:
                file.seek(blob.start)
                found = file.read(blob.size)
        except OSError as error:
            raise EdgedError("bad_release", f"{path}: {error.strerror}") from error
        if hashlib.sha256(found).hexdigest() != blob.sha256:
            raise EdgedError("bad_release", f"{path} was changed meanwhile", _AGAIN)
        return found


def _document(folder: Path) -> bytes:
    if folder.is_file():
        raise EdgedError("bad_release", f"{folder} is a file, and a release is a folder", _FILE)
    path = folder / RELEASE_FILE
    try:
        with path.open("rb") as file:
            return file.read(strict.LARGEST + 1)
    except OSError as error:
        raise EdgedError("bad_release", f"{path}: {error.strerror}") from error


def _index(path: Path, file: File) -> bytes:
    """The hashes of a file's chunks, and with them the proof that the file is the one that was signed."""
    try:
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            if size != file.size:
                raise EdgedError("bad_release", f"{path} has {size} bytes, signed are {file.size}", _AGAIN)
            found, index = chunks.cut(iter(lambda: source.read(file.chunk), b""), file.chunk)
    except OSError as error:
        raise EdgedError("bad_release", f"{path}: {error.strerror}") from error
    except strict.Malformed as error:
        raise EdgedError("bad_release", f"{path}: {error}", _AGAIN) from error
    if not size:
        raise EdgedError("bad_release", f"{path} is empty: no broker keeps an empty message", "Leave the file out.")
    if found != file:
        raise EdgedError("bad_release", f"{path} is not the file that was signed", _AGAIN)
    return index


def _cut(name: str, file: File, index: bytes) -> list[Blob]:
    found = [Blob(file.index, name, 0, len(index), index=True)]
    for number in range(file.count):
        digest = index[number * HASH_SIZE : (number + 1) * HASH_SIZE]
        start = number * file.chunk
        found.append(Blob(digest.hex(), name, start, min(file.chunk, file.size - start)))
    return found
