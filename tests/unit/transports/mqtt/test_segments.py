"""The outbox's files: what was told to be safe is there after any end; a full disk costs what was written then."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edged import disk
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.records import Moment
from edged.transports.mqtt.segments import Segments, encoded
from edged.transports.mqtt.stock import FIRST

NOW = Moment("boot", 100.0, 0)


def some(*numbers: int) -> list[bytes]:
    return encoded([Publication("t", str(number).encode(), 1) for number in numbers], NOW)


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
        return [one for part in parts for one in payloads(segments, part.first, part.done, part.count) if one]


def payloads(segments: Segments, first: int, number: int, count: int, most: int = 10**6) -> list[bytes | None]:
    return [None if one is None else one.payload for one in segments.read(first, number, count, most)[1]]


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
    assert payloads(segments, FIRST, 0, 2) == [b"1", b"2"]
    segments.append(FIRST, some(3, 4), "boot", new=False)
    assert payloads(segments, FIRST, 2, 1) == [b"3"]
    assert payloads(segments, FIRST, 3, 1) == [b"4"]
    assert payloads(segments, FIRST, 1, 3, 1) == [b"2"]  # again, and no more than one byte asks


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
    assert damaged == 2
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


def damage(path: Path, text: bytes) -> None:
    """One bit of what is written there."""
    content = path.read_bytes()
    at = content.index(text)
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def test_of_damage_only_what_is_damaged_is_given_up(segments: Segments, folder: Path) -> None:
    segments.append(FIRST, some(111, 222, 333), "boot", new=True)
    segments.append(FIRST + 3, some(444), "boot", new=True)
    damage(folder / f"{FIRST:020d}.segment", b"222")
    damage(folder / f"{FIRST + 3:020d}.segment", b"boot")  # its head: when it was filed is not known any more
    assert payloads(segments, FIRST, 0, 3) == [b"111", None, b"333"]
    parts, damaged = Segments(folder).open()
    assert [(part.first, part.count, part.left) for part in parts] == [(FIRST, 3, 2), (FIRST + 3, 1, 1)]
    assert parts[1].newest.boot == ""
    assert damaged == 1
    assert contents(folder) == [b"111", b"333", b"444"]


def test_what_cannot_be_read_is_set_aside_and_everything_else_is_there(segments: Segments, folder: Path) -> None:
    for number in range(3):
        segments.append(FIRST + number, some(number), "boot", new=True)
    segments.carry(some(9), "boot")
    hidden = folder.parent / "hidden"
    (folder / f"{FIRST + 1:020d}.segment").rename(hidden)
    (folder / f"{FIRST + 1:020d}.segment").symlink_to(hidden)  # which nobody follows, root neither
    later = Segments(folder)
    parts, damaged = later.open()
    assert damaged == 0
    assert [(part.first - FIRST, part.count, bool(part.shut)) for part in parts] == [
        (-1, 1, False),
        (0, 1, False),
        (1, 0, True),
        (2, 1, False),
    ]
    assert parts[2].shut == "is no file"
    with pytest.raises(OSError, match="is no file"):
        later.again(FIRST + 1)
    aside = folder / f"{FIRST + 1:020d}.aside"
    aside.unlink()
    hidden.rename(aside)
    found = later.again(FIRST + 1)
    assert found is not None
    assert (found.count, found.apart, found.shut) == (1, True, "")
    assert payloads(later, FIRST + 1, 0, 1) == [b"1"]
    later.close()
    assert contents(folder) == [b"9", b"0", b"1", b"2"]


def test_what_was_carried_and_cannot_be_read_is_set_aside_too(segments: Segments, folder: Path) -> None:
    segments.append(FIRST, some(1), "boot", new=True)
    (folder / "carried").symlink_to(folder)
    parts, _ = Segments(folder).open()
    assert [(part.count, bool(part.shut)) for part in parts] == [(0, True), (1, False)]
    assert parts[0].end <= FIRST
    segments.carry(some(0), "boot")  # in nobody's place
    parts, _ = Segments(folder).open()
    assert [part.count for part in parts] == [1, 0, 1]


def test_a_box_that_is_short_of_descriptors_gives_up_nothing(
    segments: Segments, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments.append(FIRST, some(1, 2), "boot", new=True)
    assert payloads(segments, FIRST, 0, 1) == [b"1"]

    def fails(_path: Path) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(disk, "open_read", fails)
    later = Segments(folder)
    with pytest.raises(OSError, match="Too many"):
        later.open()
    with pytest.raises(OSError, match="Too many"):
        segments.read(FIRST, 0, 2, 10**6)
    monkeypatch.undo()
    assert [part.shut for part in later.open()[0]] == [""]
    assert payloads(segments, FIRST, 0, 2) == [b"1", b"2"]


def test_a_read_that_failed_half_way_begins_anew(
    segments: Segments, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments.append(FIRST, some(1, 2, 3), "boot", new=True)
    assert payloads(segments, FIRST, 0, 1) == [b"1"]

    class Failing:
        def read(self, _size: int) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        def close(self) -> None: ...

    reading: Any = segments._reading
    reading[2].close()
    segments._reading = (*reading[:2], Failing(), reading[3])  # a disk that fails
    with pytest.raises(OSError, match="Input/output"):
        segments.read(FIRST, 1, 2, 10**6)
    assert payloads(segments, FIRST, 1, 2) == [b"2", b"3"]
