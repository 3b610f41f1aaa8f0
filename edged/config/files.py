"""Files that a configuration names: found, readable by the user we run as, and what is in the small ones."""

from __future__ import annotations

import errno
import logging
import os
import pwd
import select
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edged.config.mistakes import Refusal

_LOG: Final = logging.getLogger(__name__)
_PASSWORD_LARGEST: Final = 64 * 2**10  # a guard: a password, not a mistaken path to something else
_LABELS_LARGEST: Final = 2**20
_OPENED_S: Final = 2.0
_WRITTEN_S: Final = 60.0


def readable(path: Path) -> None:
    """Raises Refusal unless `path` is a file with something in it that we may read."""
    _read(path, 1)


def password(path: Path) -> str:
    """The file's text without the newline at its end. Refusal when it cannot be a password."""
    found = text(path, _PASSWORD_LARGEST, "a password").rstrip("\r\n")
    if not found:
        raise Refusal(f"{path} is empty")
    warn_if_open(path)
    return found


def warn_if_open(path: Path) -> None:
    """Says in the log that a secret is none."""
    if path.stat().st_mode & stat.S_IROTH:
        _LOG.warning("%s: everyone on this box can read it (chmod o-r)", path)


def find_secret(name: str, environment: Mapping[str, str], folder: Path) -> Path:
    """Where a secret lies: among systemd's credentials first (systemd.exec(5)), then in the configuration's folder."""
    credentials = environment.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / name).exists():
        return Path(credentials) / name
    return folder / name


def names(path: Path) -> tuple[str, ...]:
    """One name per line; empty lines at the end do not count. Refusal when the file is none such."""
    found = [line.strip() for line in text(path, _LABELS_LARGEST, "a list of names").split("\n")]
    while found and not found[-1]:
        found.pop()
    if not found:
        raise Refusal(f"{path} is empty", "one name per line")
    return tuple(found)


def text(path: Path, largest: int, what: str) -> str:
    """A small file's text; Refusal where it has more than `largest` bytes, or cannot be `what` for another reason."""
    content = _read(path, largest + 1)
    if len(content) > largest:
        raise Refusal(f"{path} is too large for {what}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(f"{path} is no text in UTF-8") from error


def _read(path: Path, count: int) -> bytes:
    """The first `count` bytes, at least one. A pipe or a device is refused before it can block us."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Refusal(f"{path} is no file")
        with path.open("rb") as file:
            content = file.read(count)
    except OSError as error:
        raise unreadable(path, error) from error
    if not content:
        raise Refusal(f"{path} is empty")
    return content


def beginning(path: Path, count: int, *, opened_s: float = _OPENED_S, written_s: float = _WRITTEN_S) -> bytes:
    """The first `count` bytes of a file, or of a pipe, as `--config <(..)` is one.

    Raises OSError: TimeoutError where nobody opens the pipe for writing within `opened_s`, or somebody has it open for
    `written_s`: a reload, and the end of a daemon, must not wait for ever.
    """
    end_s = time.monotonic() + written_s
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # or the open would wait already
    try:
        coming = select.poll()
        coming.register(descriptor, select.POLLIN)
        content = bytearray()
        while len(content) < count:
            told = coming.poll(1000 * opened_s)
            try:
                piece = os.read(descriptor, count - len(content))
            except BlockingIOError:  # somebody writes, and takes time
                if time.monotonic() > end_s:
                    raise TimeoutError(errno.ETIMEDOUT, "the pipe comes to no end") from None
                continue
            if not piece and not told:
                raise TimeoutError(errno.ETIMEDOUT, "a pipe that nobody writes to")
            if not piece:
                break
            content += piece
        return bytes(content)
    finally:
        os.close(descriptor)


def unreadable(path: Path, error: OSError) -> Refusal:
    """Why a file cannot be read, and what to do about it."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Refusal(f"{path} does not exist")
    if isinstance(error, PermissionError):
        return Refusal(f"{path} cannot be read by the user {_user()}", "check the rights of the file and its folders")
    return Refusal(f"{path} cannot be read: {error.strerror or error}")


def _user() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container may run under a number without a name
        return str(uid)
