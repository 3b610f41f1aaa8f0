"""Whether a release's folder is what its document says, and whose signatures are on it: without a broker or a box."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edged.config import overrides
from edged.delivery import disk, documents, envelope, trust
from edged.delivery.documents import RELEASE_FILE, SETTINGS_FILE, Release, Trust
from edged.delivery.envelope import Envelope
from edged.delivery.strict import LARGEST, Malformed
from edged.errors import EdgedError
from edged.fleet.making import cut


class Checked(msgspec.Struct, frozen=True):
    """A release that is whole. `keyids`: of its signatures; `signers`: those that count, () where no trust says so."""

    release: Release
    sha256: str
    keyids: tuple[str, ...]
    signers: tuple[str, ...] = ()


def opened(folder: Path) -> tuple[Envelope, Release]:
    """The envelope in a release's folder, and its document. Raises EdgedError bad_release."""
    path = folder / RELEASE_FILE
    try:
        found = envelope.decode(disk.read(path, LARGEST), "release")
        return found, documents.read_release(found.payload)
    except FileNotFoundError as error:
        raise EdgedError("bad_release", f"there is no {path}") from error
    except OSError as error:
        raise EdgedError("bad_release", f"{path}: {error.strerror}") from error
    except (Malformed, ValueError) as error:
        raise EdgedError("bad_release", f"{path}: {error}") from error


def check(folder: Path, anchor: Trust | None) -> Checked:
    """Looks at every file. Raises EdgedError bad_release, bad_settings, and signature where `anchor` counts too few."""
    found, release = opened(folder)
    for name, file in release.files.items():
        _check_file(folder / name, file)
    strays = sorted(path.name for path in folder.iterdir() if path.name not in {RELEASE_FILE, *release.files})
    if strays:
        text = f"{folder} has files that its document does not name: {', '.join(strays)}"
        raise EdgedError("bad_release", text[:400], "Take them out: no box would get them.")
    if SETTINGS_FILE in release.files:
        overrides.read(folder, release.files)
    keyids = tuple(one.keyid for one in found.signatures)
    signers = () if anchor is None else trust.release(anchor, found.encode()).signers
    return Checked(release, found.sha256, keyids, signers)


def _check_file(path: Path, file: documents.File) -> None:
    if path.is_symlink() or not path.is_file():
        raise EdgedError("bad_release", f"{path} is missing, or is no file")
    try:
        there = cut(path, file.chunk)
    except OSError as error:
        raise EdgedError("bad_release", f"{path}: {error.strerror}") from error
    except Malformed:
        there = None
    if there != file:
        text = f"{path} is not the file that was released: {path.stat().st_size} bytes of {file.size}, or other ones"
        raise EdgedError("bad_release", text, "Copy the release again.")
