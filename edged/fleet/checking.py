"""Whether a release's folder is what its document says, and whose signatures are on it: without a broker or a box."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from edged import disk
from edged.config import overrides
from edged.delivery import chunks, documents, envelope, trust
from edged.delivery.documents import RELEASE_FILE, SETTINGS_FILE, File, Release, Trust
from edged.delivery.envelope import Envelope
from edged.delivery.strict import LARGEST, Malformed
from edged.errors import CODES, EdgedError

_AGAIN: Final = "Copy the release again, or make it again."
_FILE: Final = "Make a release of it with `edged release`, or push it with `edged push --simple`."


class Checked(msgspec.Struct, frozen=True):
    """A release that is whole. `keyids`: of its signatures; `signers`: those that count, () where no trust says so."""

    release: Release
    sha256: str
    keyids: tuple[str, ...]
    signers: tuple[str, ...] = ()


def opened(folder: Path) -> tuple[Envelope, Release]:
    """The envelope in a release's folder, and its document.

    Raises EdgedError bad_release, and bad_config for what does not even look like one.
    """
    if folder.is_file():
        raise EdgedError("bad_config", f"{folder} is a file, and a release is a folder", _FILE)
    path = folder / RELEASE_FILE
    try:
        found = envelope.decode(disk.read(path, LARGEST), "release")
        return found, documents.read_release(found.payload)
    except FileNotFoundError as error:
        raise EdgedError("bad_config", f"there is no {path}", CODES["bad_release"].hint) from error
    except OSError as error:
        raise EdgedError("bad_release", f"{path}: {error.strerror}") from error
    except (Malformed, ValueError) as error:
        raise EdgedError("bad_release", f"{path}: {error}") from error


def check(folder: Path, anchor: Trust | None) -> Checked:
    """Looks at every file. Raises EdgedError bad_release, bad_settings, and signature where `anchor` counts too few."""
    found, release = opened(folder)
    for name, file in release.files.items():
        index(folder / name, file)
    strays = sorted(path.name for path in folder.iterdir() if path.name not in {RELEASE_FILE, *release.files})
    if strays:
        text = f"{folder} has files that its document does not name: {', '.join(strays)}"
        raise EdgedError("bad_release", text[:400], "Take them out: no box would get them.")
    if SETTINGS_FILE in release.files:
        overrides.read(folder, release.files)
    keyids = tuple(one.keyid for one in found.signatures)
    signers = () if anchor is None else trust.release(anchor, found.encode()).signers
    return Checked(release, found.sha256, keyids, signers)


def index(path: Path, file: File) -> bytes:
    """The hashes of a file's chunks, and with them the proof that the file is the one that was signed.

    Raises EdgedError bad_release.
    """
    if path.is_symlink() or not path.is_file():
        raise EdgedError("bad_release", f"{path} is missing, or is no file", _AGAIN)
    try:
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            if size != file.size:
                raise EdgedError(
                    "bad_release",
                    f"{path} is not the file that was released: it has {size} bytes of {file.size}",
                    _AGAIN,
                )
            found, hashes = chunks.cut(iter(lambda: source.read(file.chunk), b""), file.chunk)
    except OSError as error:
        raise EdgedError("bad_release", f"{path}: {error.strerror}") from error
    except Malformed as error:
        raise EdgedError("bad_release", f"{path}: {error}", _AGAIN) from error
    if not size:
        raise EdgedError("bad_release", f"{path} is empty: no broker keeps an empty message", "Leave the file out.")
    if found != file:
        raise EdgedError("bad_release", f"{path} is not the file that was released", _AGAIN)
    return hashes
