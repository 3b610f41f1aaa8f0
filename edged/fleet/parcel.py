"""A release as an operator has it: a folder with `release.json` and its files, looked through before a byte leaves."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Self

import msgspec

from edged.delivery.documents import HASH_SIZE, File, Release
from edged.errors import EdgedError
from edged.fleet.checking import index, opened

_AGAIN: Final = "Make the release again."


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
        signed, release = opened(folder)
        indexes = {name: index(folder / name, file) for name, file in release.files.items()}
        blobs = {one.sha256: one for name, file in release.files.items() for one in _cut(name, file, indexes[name])}
        return cls(folder, signed.encode(), signed.sha256, release, tuple(blobs.values()), indexes)

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


def _cut(name: str, file: File, hashes: bytes) -> list[Blob]:
    found = [Blob(file.index, name, 0, len(hashes), index=True)]
    for number in range(file.count):
        digest = hashes[number * HASH_SIZE : (number + 1) * HASH_SIZE]
        start = number * file.chunk
        found.append(Blob(digest.hex(), name, start, min(file.chunk, file.size - start)))
    return found
