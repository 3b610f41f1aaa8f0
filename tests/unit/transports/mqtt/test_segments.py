"""The outbox's files: what was told to be safe is there after any end; a full disk costs what was written then."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edged import disk
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.records import Moment
from edged.transports.mqtt.segments import Segments, encoded
from edged.transports.mqtt.stock import FIRST

NOW = Moment("boot", 100.0, 0)


def some(*numbers: int) -> list[bytes]:
    return encoded([Publication("t", str(number).encode(), 1) for number in numbers], NOW, 0.0)


@pytest.fixture
def segments(tmp_path: Path) -> Iterator[Segments]:
    with closing(Segments(tmp_path / "outbox")) as opened:
        opened.open()
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


def contents(folder: Path) -> list[bytes]:
    """Everything that a daemon that starts now finds, in order."""
    with closing(Segments(folder)) as segments:
        parts, _ = segments.open()
        return [one.payload for part in parts for one in segments.read(part.first, part.done, part.count, 10**6)[1]]


def test_what_was_appended_is_there_for_the_next(segments: Segments, folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o750
    segments.append(FIRST, some(1, 2), "boot", new=True)
    segments.append(FIRST, some(3), "boot", new=False)
    segments.append(FIRST + 3, some(4), "boot", new=True)
    assert contents(folder) == [b"1", b"2", b"3", b"4"]  # the one that wrote them is still there, or was killed
    segments.mark(FIRST, 2)
    assert contents(folder) == [b"3", b"4"]
    segments.remove([FIRST])
    assert contents(folder) == [b"4"]


def test_reading_follows_a_segment_that_grows(segments: Segments, folder: Path) -> None:
    segments.append(FIRST, some(1, 2), "boot", new=True)
    assert [one.payload for one in segments.read(FIRST, 0, 2, 10**6)[1]] == [b"1", b"2"]
    segments.append(FIRST, some(3, 4), "boot", new=False)
    assert [one.payload for one in segments.read(FIRST, 2, 1, 10**6)[1]] == [b"3"]
    assert [one.payload for one in segments.read(FIRST, 3, 1, 10**6)[1]] == [b"4"]
    assert [one.payload for one in segments.read(FIRST, 1, 3, 1)[1]] == [b"2"]  # again, and no more than one byte asks


def test_what_was_carried_goes_before_all_segments(segments: Segments, folder: Path) -> None:
    segments.append(FIRST, some(3), "boot", new=True)
    segments.carry(some(1, 2), "boot")
    segments.mark(FIRST, 0)
    assert contents(folder) == [b"1", b"2", b"3"]
    assert contents(folder) == [b"1", b"2", b"3"]  # it is a segment now
    segments.carry(some(0), "boot")
    assert contents(folder) == [b"0", b"1", b"2", b"3"]
    segments.carry(some(9), "boot")
    segments.carry([], "boot")
    assert contents(folder) == [b"0", b"1", b"2", b"3"]


def test_a_torn_end_and_files_that_are_none_of_ours(segments: Segments, folder: Path) -> None:
    segments.append(FIRST, some(1, 2), "boot", new=True)
    path = next(folder.glob("*.segment"))
    path.write_bytes(path.read_bytes()[:-1])
    (folder / f"{FIRST + 9:020d}.segment").write_bytes(b"no segment")
    (folder / "mark").write_bytes(b"no mark")
    (folder / "carried").write_bytes(b"")
    parts, damaged = Segments(folder).open()
    assert [(part.first, part.count) for part in parts] == [(FIRST, 1)]
    assert damaged == 1
    assert contents(folder) == [b"1"]


@pytest.mark.parametrize("new", [True, False])
def test_a_write_that_fails_half_way_leaves_nothing(
    segments: Segments, folder: Path, monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    segments.append(FIRST, some(1), "boot", new=True)
    write = disk.write_at

    def fails(descriptor: int, content: bytes, offset: int) -> None:
        write(descriptor, content[: len(content) // 2], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "write_at", fails)
    with pytest.raises(OSError, match="No space"):
        segments.append(FIRST + 1 if new else FIRST, some(2), "boot", new=new)
    monkeypatch.undo()
    assert contents(folder) == [b"1"]
    segments.append(FIRST + 1, some(3), "boot", new=True)
    assert contents(folder) == [b"1", b"3"]
