"""Where log lines go: systemd's journal with fields of their own, or short lines for people.

Everything logs through `logging.getLogger("edged")`, with `extra={"model": .., "version": .., "code": ..,
"generation": ..}` where it knows them; `journalctl MODEL=digits` then finds the lines.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TextIO

JOURNAL: Final = Path("/run/systemd/journal/socket")
FIELDS: Final = ("model", "version", "code", "generation")
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def setup(
    level: int = logging.INFO,
    *,
    environment: Mapping[str, str] = os.environ,
    stream: TextIO | None = None,
    journal: Path = JOURNAL,
) -> logging.Handler:
    """Sends edged's lines from `level` up, and other packages' warnings, to the right place.

    The journal where systemd has connected stderr to it, else `stream` (stderr). Returns the handler,
    the only one of the root logger from now on.
    """
    stream = sys.stderr if stream is None else stream
    handler: logging.Handler
    if _is_journal(stream, environment) and journal.exists():
        handler = JournalHandler(journal)
    else:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(PriorityFormatter() if _is_journal(stream, environment) else LineFormatter(stream))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("edged").setLevel(level)
    return handler


def _is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether `stream` is the one that systemd connected to the journal (JOURNAL_STREAM, systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class LineFormatter(logging.Formatter):
    """`12:03:04 warning digits: the model is slow [too_slow]`; with the date where it is not a terminal."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(datefmt="%H:%M:%S" if stream.isatty() else "%Y-%m-%dT%H:%M:%S%z")

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record, self.datefmt)} {record.levelname.lower():7} {_text(record)}"


class PriorityFormatter(logging.Formatter):
    """`<4>digits: the model is slow`: sd-daemon(3)'s prefix, on every line of a record."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(f"<{_priority(record)}>{line}" for line in _text(record).splitlines())


class JournalHandler(logging.Handler):
    """Writes journald's native protocol: a record stays one entry, however many lines it has.

    Never blocks: what a busy journal does not take is counted, and told with the next entry.
    """

    def __init__(self, path: Path = JOURNAL) -> None:
        super().__init__()
        self._path = os.fspath(path)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(entry(record, lost=self._lost))
            self._lost = 0
        except OSError:
            self._lost += 1
        except Exception:  # noqa: BLE001 - a log line must not end the daemon; logging says so on stderr itself
            self.handleError(record)

    def close(self) -> None:
        self._sock.close()
        super().close()

    def _send(self, message: bytes) -> None:
        try:
            self._sock.sendto(message, self._path)
        except OSError as error:
            if error.errno not in {errno.EMSGSIZE, errno.ENOBUFS}:
                raise
            self._send_large(message)

    def _send_large(self, message: bytes) -> None:
        """An entry above the size of a datagram goes as a sealed memfd, alone in an empty message."""
        with os.fdopen(os.memfd_create("edged-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb") as file:
            file.write(message)
            file.flush()
            fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, _SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))
            self._sock.sendmsg([], [rights], 0, self._path)


def entry(record: logging.LogRecord, *, lost: int = 0) -> bytes:
    """A record in journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    fields = {
        "MESSAGE": _text(record),  # the fields say it too, and journalctl shows no fields
        "PRIORITY": str(_priority(record)),
        "SYSLOG_IDENTIFIER": "edged",
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
        **{name.upper(): value for name, value in _known(record).items()},
    }
    if lost:
        fields["EDGED_LOST_ENTRIES"] = str(lost)
    return b"".join(_field(name, value) for name, value in fields.items())


def _field(name: str, value: str) -> bytes:
    raw = value.encode("utf-8", "backslashreplace")
    if b"\n" in raw:
        return b"%b\n%b%b\n" % (name.encode(), struct.pack("<Q", len(raw)), raw)
    return b"%b=%b\n" % (name.encode(), raw)


def _known(record: logging.LogRecord) -> dict[str, str]:
    found = {name: getattr(record, name, None) for name in FIELDS}
    return {name: str(value) for name, value in found.items() if value not in {None, ""}}


def _text(record: logging.LogRecord) -> str:
    """The message with the model and the code, for a reader who sees no fields."""
    known = _known(record)
    subject = f"{known['model']}: " if "model" in known else ""
    message, separator, rest = _message(record).partition("\n")
    return f"{subject}{message}{' [' + known['code'] + ']' if 'code' in known else ''}{separator}{rest}"


def _message(record: logging.LogRecord) -> str:
    """The message and, below it, its traceback."""
    parts = [record.getMessage()]
    if record.exc_info:
        parts.append(logging.Formatter().formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _priority(record: logging.LogRecord) -> int:
    """syslog(3)'s number for logging's level."""
    for level, number in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if record.levelno >= level:
            return number
    return 7
