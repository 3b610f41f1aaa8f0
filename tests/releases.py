"""Folders of releases as an operator has them."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec

from edged.delivery import documents
from edged.delivery.documents import RELEASE_FILE
from tests.signing import Operator, file_of, release_of, sha256_of


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that nothing compresses and no chunk of which comes twice."""
    return Random(seed).randbytes(size)  # noqa: S311  no secret


def folder_of(
    folder: Path,
    files: dict[str, bytes],
    operator: Operator,
    *,
    model: str = "digits",
    version: int = 2,
    chunk: int = documents.CHUNK,
) -> str:
    """Writes a release's folder, signed; returns the release's hash."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    cut = {name: file_of(data, chunk) for name, data in files.items()}
    release = msgspec.structs.replace(release_of(files, model=model, version=version), files=cut)
    (folder / RELEASE_FILE).write_bytes(operator.sign_release(release))
    return sha256_of(release)
