"""The outbox's files, below the state directory: written, read and removed by one thread. Everything here blocks.

    <first serial, 20 digits>.segment    messages in order (records.py), only ever appended to
    mark                                 how many of the oldest segment's messages are done
    carried                              what was in memory when the connection was lost; goes before all segments

A write is told as done when it is on the disk (fdatasync, and the folder for a new name). `mark` is not synced: what it
forgets is sent twice.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from edged import disk
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.records import Damaged, Moment, Record, boot_of, head, record, records_of, skip
from edged.transports.mqtt.stock import FIRST, Part

_log = logging.getLogger(__name__)
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_SUFFIX: Final = ".segment"
_RESERVE: Final = 16 * 2**20  # bytes that are left to others on the disk, or a sixteenth of a small one
_BUFFER: Final = 64 * 1024
_MARK: Final = struct.Struct("<QQI")


def moments(wall_ms: Callable[[], int], synced: Callable[[], bool]) -> Callable[[], Moment]:
    """What time it is for records."""
    try:
        boot = _BOOT.read_text("ascii").strip()
    except OSError:  # not in every container; then only the wall clock reaches beyond this daemon
        boot = f"{os.getpid()}-{time.time_ns()}"
    return lambda: Moment(boot, time.clock_gettime(time.CLOCK_BOOTTIME), wall_ms() if synced() else 0)


class Segments:
    """Called by one thread at a time. Raises OSError where it says so; a write that fails leaves nothing behind."""

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder
        self._carried: Final = folder / "carried"
        self._file = -1  # the segment that grows
        self._size = 0
        self._reading: tuple[int, int, BinaryIO, str] | None = None  # segment, next message, file, its boot

    def open(self) -> tuple[list[Part], int]:
        """What an earlier daemon has left, and how many segments could not be read: those are gone. Raises OSError."""
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o750, parents=True)
            disk.sync_folder(self._folder.parent)
        firsts = sorted(int(path.stem) for path in self._folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())
        if self._carried.exists():
            part = self._scan(self._carried, 0)
            if part is not None and part.count:
                first = (firsts[0] if firsts else FIRST) - part.count
                self._carried.rename(self._path(first))
                disk.sync_folder(self._folder)
                firsts.insert(0, first)
            else:
                self._carried.unlink()
        marked, done = self._marked()
        parts, damaged = [], 0
        for first in firsts:
            part = self._scan(self._path(first), first)
            if part is None or not part.count:
                damaged += part is None
                self._path(first).unlink()
                continue
            part.done = min(done, part.count) if first == marked else 0
            parts.append(part)
        return parts, damaged

    def append(self, first: int, messages: Sequence[bytes], boot: str, *, new: bool) -> int:
        """Durable when it returns: how many bytes the segment has grown by. Raises OSError."""
        content = b"".join(messages)
        if new:
            self._close_file()
            content = head(boot) + content
        self._leave_room(len(content))
        if new:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file, self._size = os.open(self._path(first), flags, 0o640), 0
        try:
            disk.write_at(self._file, content, self._size)
            os.fdatasync(self._file)
            if new:
                disk.sync_folder(self._folder)
        except OSError:
            self._take_back(first, new=new)
            raise
        self._size += len(content)
        return len(content)

    def read(self, first: int, number: int, count: int, most: int) -> tuple[str, list[Record]]:
        """The boot of a segment and its messages from `number` on: at most `count` of them, and `most` bytes or one.

        Fewer where the file is damaged. Raises OSError.
        """
        reading = self._reading
        if reading is None or reading[:2] != (first, number):
            self._close_reading()
            # Unbuffered at the end of a file that grows: what comes later is seen.
            file = os.fdopen(disk.open_read(self._path(first)), "rb", _BUFFER)
            try:
                boot = boot_of(file.read)
                skip(file.read, number)
            except Damaged:
                file.close()
                return "", []
            reading = first, number, file, boot
        _, _, file, boot = reading
        found: list[Record] = []
        size = 0
        for one in records_of(file.read) if count else ():
            found.append(one)
            size += len(one.payload)
            if len(found) == count or size >= most:
                break
        self._reading = first, number + len(found), file, boot
        return boot, found

    def remove(self, firsts: Sequence[int]) -> None:
        """Segments that are done with. Raises OSError."""
        for first in firsts:
            if self._reading is not None and self._reading[0] == first:
                self._close_reading()
            self._path(first).unlink(missing_ok=True)

    def mark(self, first: int, done: int) -> None:
        """So many of the messages of that segment need not be sent again. Raises OSError."""
        content = struct.pack("<QQ", first, done)
        descriptor = os.open(self._folder / "mark", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            disk.write_at(descriptor, content + struct.pack("<I", zlib.crc32(content)), 0)
        finally:
            os.close(descriptor)

    def carry(self, messages: Sequence[bytes], boot: str) -> None:
        """Puts these in the place of what was carried before; none: nothing is carried any more. Raises OSError."""
        if not messages:
            self._carried.unlink(missing_ok=True)
            return
        content = head(boot) + b"".join(messages)
        self._leave_room(len(content))
        disk.write(self._folder / "carried.new", content).rename(self._carried)
        disk.sync_folder(self._folder)

    def close(self) -> None:
        self._close_file()
        self._close_reading()

    # --- its own ----------------------------------------------------------------------------------------

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:020d}{_SUFFIX}"

    def _scan(self, path: Path, first: int) -> Part | None:
        """What is whole of a segment; None when none of it can be read."""
        with os.fdopen(disk.open_read(path), "rb", _BUFFER) as file:
            try:
                boot = boot_of(file.read)
            except Damaged as error:
                _log.warning("the outbox's %s cannot be read, and is removed: %s", path.name, error)
                return None
            count, newest = 0, Moment(boot, 0.0, 0)
            for count, last in enumerate(records_of(file.read), 1):  # noqa: B007  the last ones are wanted
                newest = last.filed(boot)
            return Part(first, count, path.stat().st_size, newest)

    def _marked(self) -> tuple[int, int]:
        try:
            content = disk.read(self._folder / "mark", _MARK.size)
            first, done, checksum = _MARK.unpack(content)
        except (OSError, ValueError, struct.error):
            return 0, 0
        return (first, done) if zlib.crc32(content[:-4]) == checksum else (0, 0)

    def _leave_room(self, size: int) -> None:
        there = os.statvfs(self._folder)
        reserve = min(_RESERVE, there.f_blocks * there.f_frsize // 16)
        if there.f_bavail * there.f_frsize - size < reserve:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _take_back(self, first: int, *, new: bool) -> None:
        """Half a write is no record; what cannot be taken back is found to be none when it is read."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._size)
        if new:
            self._close_file()
            with contextlib.suppress(OSError):
                self._path(first).unlink(missing_ok=True)

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _close_reading(self) -> None:
        if self._reading is not None:
            self._reading[2].close()
        self._reading = None


def encoded(messages: Sequence[Publication], now: Moment, now_s: float) -> list[bytes]:
    """Messages as records; `now_s` is of the monotonic clock."""
    return [record(message, now, now_s) for message in messages]
