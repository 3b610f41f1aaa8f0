"""What was pushed from this machine, in `pushed.json` beside fleet.yaml: a help for tidying up, never the truth.

A broker cannot be asked for a complete list of what it keeps. Whoever removed a release's document from it left
pieces that nobody can name any more, but for whoever once pushed them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from edged.errors import EdgedError
from edged.fleet import trustbook

NAME: Final = "pushed.json"
_RELEASES: Final = 256  # the newest; 14 KB for one of 20 MB
_LARGEST: Final = 32 * 2**20


class Memory:
    """By release: the hashes of its pieces. Without a file, or with one that cannot be read, nothing is remembered."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path

    def read(self) -> dict[str, list[str]]:
        """Release -> pieces, the oldest first."""
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(_LARGEST), type=dict[str, list[str]])
        except (OSError, msgspec.MsgspecError):
            return {}

    def note(self, release: str, blobs: list[str]) -> None:
        """Remembers one; that it cannot is no reason to fail."""
        found = self.read()
        found.pop(release, None)
        self._write({**found, release: blobs})

    def forget(self, releases: frozenset[str]) -> None:
        self._write({name: blobs for name, blobs in self.read().items() if name not in releases})

    def _write(self, found: dict[str, list[str]]) -> None:
        newest = dict(list(found.items())[-_RELEASES:])
        with contextlib.suppress(EdgedError):
            trustbook.write(self._path, msgspec.json.encode(newest))
