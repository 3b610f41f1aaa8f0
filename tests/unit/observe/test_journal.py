"""Log lines for people, for sd-daemon's prefix, and in the journal's native protocol over a real socket."""

from __future__ import annotations

import array
import io
import logging
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.observe.journal import JournalHandler, entry, setup

LOG = logging.getLogger("edged")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Gives the root logger back its handlers and levels."""
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    levels = root.level, LOG.level
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers = before
    root.setLevel(levels[0])
    LOG.setLevel(levels[1])


@pytest.fixture
def journald(short_path: Path) -> Iterator[socket.socket]:
    """What journald is to us: a datagram socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(short_path / "journal"))
        sock.settimeout(5)
        yield sock


def parse(data: bytes) -> dict[str, str]:
    """The native protocol, read as journald does; raises for anything malformed."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        if b"=" in line:
            name, value = line.split(b"=", 1)
        else:
            name, (size,) = line, struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert (len(value), rest[:1]) == (size, b"\n")
            rest = rest[1:]
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name)
        fields[name.decode()] = value.decode()
        data = rest
    return fields


def read(journald: socket.socket) -> dict[str, str]:
    data, ancillary, _, _ = journald.recvmsg(1 << 20, socket.CMSG_SPACE(4))
    if not ancillary:
        return parse(data)
    assert data == b""
    (descriptor,) = array.array("i", ancillary[0][2])
    with os.fdopen(descriptor, "r+b") as file:
        with pytest.raises(PermissionError):  # sealed: journald takes no other
            os.ftruncate(descriptor, 0)
        return parse(os.pread(file.fileno(), 1 << 24, 0))


def record(message: str, **extra: object) -> logging.LogRecord:
    return LOG.makeRecord("edged", logging.WARNING, __file__, 7, message, (), None, "f", extra)


def test_an_entry_has_the_promised_fields(short_path: Path, journald: socket.socket) -> None:
    handler = JournalHandler(short_path / "journal")
    handler.emit(record("slow", model="digits", version="2", code="too_slow", generation=3))
    found = read(journald)
    assert (found["MESSAGE"], found["PRIORITY"], found["SYSLOG_IDENTIFIER"]) == (
        "digits: slow [too_slow]",
        "4",
        "edged",
    )
    assert (found["MODEL"], found["VERSION"], found["CODE"], found["GENERATION"]) == ("digits", "2", "too_slow", "3")
    assert found["CODE_LINE"] == "7"
    handler.emit(record("plain", model=None, version=""))
    assert {"MODEL", "VERSION", "CODE"}.isdisjoint(read(journald))
    handler.close()


def test_a_traceback_is_one_entry(tmp_path: Path, short_path: Path, journald: socket.socket) -> None:
    stream = (tmp_path / "stderr").open("w")
    stat = os.fstat(stream.fileno())
    environment = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
    setup(environment=environment, stream=stream, journal=short_path / "journal")
    try:
        int("no\nsuch")
    except ValueError:
        LOG.exception("it failed\nbadly")
    message = read(journald)["MESSAGE"]
    assert message.startswith("it failed\nbadly\nTraceback")
    assert message.endswith(r"ValueError: invalid literal for int() with base 10: 'no\nsuch'")
    stream.close()


def test_a_large_entry_goes_by_memfd(short_path: Path, journald: socket.socket) -> None:
    handler = JournalHandler(short_path / "journal")
    text = "é\n" * 500_000
    handler.emit(record(text))
    assert read(journald)["MESSAGE"] == text
    handler.close()


def test_a_busy_journal_blocks_nobody_and_the_loss_is_told(short_path: Path, journald: socket.socket) -> None:
    handler = JournalHandler(short_path / "journal")
    sent = 2000
    for _ in range(sent):
        handler.emit(record("x"))
    received = 0
    journald.settimeout(0)
    with pytest.raises(BlockingIOError):
        while True:
            read(journald)
            received += 1
    assert received < sent
    handler.emit(record("y"))
    assert read(journald)["EDGED_LOST_ENTRIES"] == str(sent - received)
    handler.emit(record("z"))
    assert "EDGED_LOST_ENTRIES" not in read(journald)
    handler.close()


@given(st.text(), st.text())
def test_any_text_survives(message: str, model: str) -> None:
    made = logging.LogRecord("edged", logging.INFO, "f.py", 1, message.replace("%", ""), None, None)
    made.model = model
    found = parse(entry(made))
    text = (f"{model}: " if model else "") + message.replace("%", "")
    shown = text.encode("utf-8", "backslashreplace").decode()
    assert found["MESSAGE"] == shown
    assert found.get("MODEL", "") == model.encode("utf-8", "backslashreplace").decode()


def test_lines_for_people() -> None:
    stream = io.StringIO()
    setup(environment={}, stream=stream)
    LOG.warning("too slow", extra={"model": "digits", "code": "too_slow"})
    LOG.debug("not shown")
    logging.getLogger("other").info("not shown")
    logging.getLogger("other").warning("shown")
    first, second = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} warning digits: too slow \[too_slow\]", first)
    assert second.endswith("warning shown")


def test_a_journal_without_its_socket_gets_a_prefix_on_each_line(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        stat = os.fstat(stream.fileno())
        environment = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        setup(environment=environment, stream=stream, journal=tmp_path / "none")
        LOG.error("one\ntwo", extra={"model": "m"})
    assert (tmp_path / "stderr").read_text() == "<3>m: one\n<3>two\n"


def test_a_stderr_that_was_redirected_is_not_the_journal(
    tmp_path: Path, short_path: Path, journald: socket.socket
) -> None:
    with (tmp_path / "file").open("w") as stream:
        setup(environment={"JOURNAL_STREAM": "1:2"}, stream=stream, journal=short_path / "journal")
        LOG.info("here")
    assert "here" in (tmp_path / "file").read_text()
    journald.settimeout(0)
    with pytest.raises(BlockingIOError):
        journald.recv(1)
