"""The outbox's files, below the state directory: written, read and removed by one thread. Everything here blocks.

    <first serial, 20 digits>.segment    messages in order (records.py), only ever appended to
    <first serial, 20 digits>.aside      one that could not be read: behind it others may be gone
    mark                                 how many of the oldest segment's messages are done
    overtaken                            which messages are not to be retained any more (overtaken.py)
    carried                              what was in memory when the connection was lost; goes before all segments

A write is told as done when it is on the disk (fdatasync, and the folder for a new name). `mark` and `overtaken`
are not synced: what the one forgets is sent twice, what the other forgets may be retained in the place of a newer one.
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
from edged.transports.mqtt.clocks import boot_s
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.records import Damaged, Moment, Record, boot_of, head, record, records_of, skip
from edged.transports.mqtt.stock import FIRST, Part

_log = logging.getLogger(__name__)
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_SUFFIX: Final = ".segment"
_ASIDE: Final = ".aside"
# The box is short of something; it says nothing about a file.
_SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})
_RESERVE: Final = 16 * 2**20  # bytes that are left to others on the disk, or a sixteenth of a small one
_BUFFER: Final = 64 * 1024
_MARK: Final = struct.Struct("<QQI")
_NOTE: Final = 2**20  # bytes at most


def moments(wall_ms: Callable[[], int], synced: Callable[[], bool]) -> Callable[[], Moment]:
    """What time it is for records."""
    try:
        boot = _BOOT.read_text("ascii").strip()
    except OSError:  # not in every container; then only the wall clock reaches beyond this daemon
        boot = f"{os.getpid()}-{time.time_ns()}"
    return lambda: Moment(boot, boot_s(), wall_ms() if synced() else 0)


def is_short(error: OSError) -> bool:
    """Whether it is no file's fault: all others would be met by it, too."""
    return error.errno in _SHORT


class Segments:
    """Called by one thread at a time. Raises OSError where it says so; a write that fails leaves nothing behind."""

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder
        self._carried: Final = folder / "carried"
        self._file = -1  # the segment that grows
        self._size = 0
        self._places: dict[int, Path] = {}  # of segments that an earlier daemon has left, or that are set aside
        self._damaged = 0
        self._reading: tuple[int, int, BinaryIO, str] | None = None  # segment, next message, file, its boot

    def open(self) -> tuple[list[Part], int]:
        """What an earlier daemon has left, and how many messages of it are known to be damaged. Raises OSError.

        A segment that cannot be read is `shut`, and all others are as they would be without it.
        """
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o750, parents=True)
            disk.sync_folder(self._folder.parent)
        self._damaged = 0
        self._places = {
            int(path.stem): path
            for path in self._folder.iterdir()
            if path.suffix in (_SUFFIX, _ASIDE) and path.stem.isdecimal()
        }
        if (carried := self._look(self._carried, 0)) is not None:
            carried.first = min(self._places, default=FIRST) - carried.end
            self._settle(self._carried, carried)
        marked, done = self._marked()
        parts = []
        for first, path in sorted(self._places.items()):
            part = self._look(path, first)
            if part is None:
                del self._places[first]
                continue
            if first == marked:
                part.begin(done)
            self._damaged += len(part.beyond)
            parts.append(part)
        return parts, self._damaged

    def again(self, first: int) -> Part | None:
        """A segment that was shut, as it is found now; None when there is nothing in it. Raises OSError."""
        try:
            part = self._scan(self._path(first), first)
        except Damaged:
            return None
        part.apart = True
        return part if part.count else None

    def aside(self, part: Part) -> None:
        """Keeps in mind, beyond this daemon, that others behind this one may go before it; if the disk lets it."""
        with contextlib.suppress(OSError):
            self._settle(self._path(part.first), part)

    def append(self, first: int, messages: Sequence[bytes], boot: str, *, new: bool) -> int:
        """Durable when it returns: how many bytes the segment has grown by. Raises OSError."""
        content = b"".join(messages)
        if new:
            self._close_file()
            content = head(boot) + content
        self._leave_room(len(content))
        if new:
            self._file = disk.open_file(self._path(first), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            self._size = 0
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

    def read(self, first: int, number: int, count: int, most: int) -> tuple[str, list[Record | None]]:
        """The boot of a segment and its messages from `number` on: at most `count` of them, and `most` bytes or one.

        None for one that is damaged, fewer where nothing can be found any more. Raises OSError.
        """
        reading, self._reading = self._reading, None  # where its file is after an error nobody knows
        if reading is not None and reading[:2] != (first, number):
            reading[2].close()
            reading = None
        try:
            file, boot = self._begin(first, number) if reading is None else reading[2:]
        except Damaged:
            return "", []
        try:
            found = _some(file, count, most)
        except OSError:
            file.close()
            raise
        self._reading = first, number + len(found), file, boot
        return boot, found

    def remove(self, firsts: Sequence[int]) -> None:
        """Segments that are done with. Raises OSError."""
        for first in firsts:
            if self._reading is not None and self._reading[0] == first:
                self._close_reading()
            self._path(first).unlink(missing_ok=True)
            self._places.pop(first, None)

    def mark(self, first: int, done: int) -> None:
        """So many of the messages of that segment need not be sent again. Raises OSError."""
        content = struct.pack("<QQ", first, done)
        descriptor = disk.open_file(self._folder / "mark", os.O_WRONLY | os.O_CREAT)
        try:
            disk.write_at(descriptor, content + struct.pack("<I", zlib.crc32(content)), 0)
        finally:
            os.close(descriptor)

    def note(self, overtaken: bytes) -> None:
        """Puts it in the place of what was noted before. Raises OSError."""
        place = self._folder / "overtaken"
        if not overtaken:
            place.unlink(missing_ok=True)
            return
        descriptor = disk.open_file(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            disk.write_at(descriptor, overtaken, 0)
        finally:
            os.close(descriptor)

    def noted(self) -> bytes:
        """What an earlier daemon has noted; b"" where nothing can be read."""
        try:
            return disk.read(self._folder / "overtaken", _NOTE)
        except (OSError, ValueError):
            return b""

    def carry(self, messages: Sequence[bytes], boot: str) -> int:
        """Puts these in the place of what was carried before, none: nothing is carried any more; how many bytes.

        Raises OSError.
        """
        if not messages:
            self._carried.unlink(missing_ok=True)
            return 0
        content = head(boot) + b"".join(messages)
        self._leave_room(len(content))
        disk.write(self._folder / "carried.new", content).rename(self._carried)
        disk.sync_folder(self._folder)
        return len(content)

    def close(self) -> None:
        self._close_file()
        self._close_reading()

    # --- its own ----------------------------------------------------------------------------------------

    def _path(self, first: int) -> Path:
        return self._places.get(first) or self._folder / f"{first:020d}{_SUFFIX}"

    def _begin(self, first: int, number: int) -> tuple[BinaryIO, str]:
        """A segment from that message on, and its boot. Raises Damaged, OSError."""
        # Unbuffered at the end of a file that grows: what comes later is seen.
        file = os.fdopen(disk.open_read(self._path(first)), "rb", _BUFFER)
        try:
            boot = boot_of(file.read)
            skip(file.read, number)
        except (Damaged, OSError):
            file.close()
            raise
        return file, boot

    def _settle(self, path: Path, part: Part) -> None:
        """Gives a segment the name that it has from now on."""
        place = self._folder / f"{part.first:020d}{_ASIDE if part.apart else _SUFFIX}"
        path.rename(place)
        self._places[part.first] = place
        disk.sync_folder(self._folder)

    def _look(self, path: Path, first: int) -> Part | None:
        """What an earlier daemon has left of a segment; a file with nothing in it goes. Raises OSError."""
        try:
            try:
                part = self._scan(path, first)
                part.apart = path.suffix == _ASIDE
            except Damaged as error:
                _log.warning("the outbox's %s cannot be read, and is removed: %s", path.name, error)
                self._damaged += 1
                part = Part(first, 0, 0, Moment("", 0.0, 0))
            if not part.count:
                path.unlink()
                return None
        except FileNotFoundError:
            return None
        except OSError as error:
            if is_short(error):
                raise
            part = Part(first, 0, _size(path), Moment("", 0.0, 0), shut=error.strerror or str(error), apart=True)
            if path != self._carried:
                self.aside(part)
        return part

    def _scan(self, path: Path, first: int) -> Part:
        """What is whole of a segment, and those before it. Raises Damaged, OSError."""
        with os.fdopen(disk.open_read(path), "rb", _BUFFER) as file:
            boot = boot_of(file.read)
            count, damaged, newest = 0, set(), Moment(boot, 0.0, 0)
            for number, one in enumerate(records_of(file.read)):
                if one is None:
                    damaged.add(number)
                else:
                    count, newest = number + 1, one.filed(boot)
            if not boot and not count:
                raise Damaged("its head is damaged")
            part = Part(first, count, os.fstat(file.fileno()).st_size, newest)
            part.beyond = {number for number in damaged if number < count}
            part.begin(0)
            return part

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


def encoded(messages: Sequence[Publication], now: Moment) -> list[bytes]:
    """Messages as records."""
    return [record(message, now) for message in messages]


def _some(file: BinaryIO, count: int, most: int) -> list[Record | None]:
    found: list[Record | None] = []
    size = 0
    for one in records_of(file.read) if count else ():
        found.append(one)
        size += len(one.payload) if one is not None else 0
        if len(found) == count or size >= most:
            break
    return found


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return 0
