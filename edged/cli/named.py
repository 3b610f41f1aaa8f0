"""Files that a command line names: one that cannot be read is wrong use, whatever the command would do with it."""

from __future__ import annotations

from pathlib import Path

from edged.errors import EdgedError


def check(file: Path) -> None:
    """Raises EdgedError bad_config unless `file` is a file that can be read."""
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise unreadable(file, error) from error


def content(file: Path) -> bytes:
    """All of it. Raises EdgedError bad_config."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from error


def unreadable(file: Path, error: OSError) -> EdgedError:
    return EdgedError("bad_config", f"{file}: {error.strerror or error}", "Name a file that you may read.")
