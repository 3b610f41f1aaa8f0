"""The audit on the disk: `audit.jsonl` in the state directory, its older files, and who is told of a new line.

A decision is written and fsynced, then told (the journal, the `event` topic). At most once a second: the first of
a burst goes at once, what comes within the second after it goes together, those of one kind as one line. Only who has
asked for something and is answered waits until it is there: `edged log` behind `edged rollback` shows it.

A disk that cannot be written stops nothing: decisions are told all the same, their lines wait in memory, 1000 of
them, and are written when there is room again. Of more, the oldest are lost, which shows as a gap in the numbers.
This has the state directory's lock by way of the store, and a file of its own beside the store's.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from edged.delivery.audit import Decision, Entry, Link, decode, encode, entry
from edged.disk import is_full, open_file, open_read, sync_folder

NAME: Final = "audit.jsonl"
KEPT: Final = 8  # files, the newest one included
SIZE: Final = 2**20
WAITING: Final = 1000  # lines that the disk has not taken
EVERY_S: Final = 1.0
RETRY_S: Final = 10.0
_PATIENCE_S: Final = 2.0

log = logging.getLogger("edged.delivery")

Told = Callable[[Sequence[Entry]], None]


class Trail:
    """`told(entries)` is called in the loop for each batch of lines, written or, on a full disk, not yet."""

    def __init__(
        self,
        root: Path,
        told: Told = lambda _entries: None,
        *,
        size: int = SIZE,
        every_s: float = EVERY_S,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._root: Final = root
        self._told: Final = told
        self._size: Final = size
        self._every_s: Final = every_s
        self._wall_ms: Final = wall_ms
        self._link: Link | None = None
        self._pending: dict[tuple[str, ...], tuple[Decision, int]] = {}
        self._unwritten: collections.deque[bytes] = collections.deque()
        self._wake: Final = asyncio.Event()
        self._flushing: Final = asyncio.Lock()
        self.lost = 0  # lines that no file has

    @property
    def behind(self) -> int:
        """Lines that the disk has not taken yet."""
        return len(self._unwritten)

    def add(self, decision: Decision) -> None:
        """Takes a decision; returns at once."""
        # What was done is a line each, and takes its time; what was refused is as fast as strangers ask.
        kind = decision.kind if decision.code else (*decision.kind, str(len(self._pending)))
        count = self._pending.pop(kind, (decision, 0))[1]
        self._pending[kind] = (decision, count + 1)
        self._wake.set()

    async def open(self) -> None:
        """Finds the end of the chain, without which no line can be written. Raises OSError.

        Not before the store is open, which has the directory's lock.
        """
        self._link = await asyncio.to_thread(_mend, self._root)

    async def run(self) -> None:
        """Writes and tells, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if self._unwritten else None):
                    await self._wake.wait()
            self._wake.clear()
            await self.flush()
            await asyncio.sleep(self._every_s)

    async def caught_up(self) -> None:
        """Until what has been decided is written and told, for 2 s at most: a disk that hangs is not waited for."""
        if self._pending or self._flushing.locked():
            await asyncio.wait({asyncio.ensure_future(self.flush())}, timeout=_PATIENCE_S)

    async def close(self) -> None:
        """Writes and tells what is left; a disk that hangs is left behind."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self.flush()

    async def flush(self) -> None:
        """Writes and tells what there is now. Whoever stops waiting does not end it, or what is written came twice."""
        await asyncio.shield(asyncio.ensure_future(self._flush()))

    async def _flush(self) -> None:
        async with self._flushing:
            entries = [] if self._link is None else self._take(self._link)
            if self._unwritten:
                await self._write()
            for one in entries:
                journal(one)
            if entries:
                self._told(entries)

    def _take(self, link: Link) -> list[Entry]:
        """The pending decisions as the chain's next lines, which wait to be written."""
        pending, self._pending = self._pending, {}
        entries = []
        for decision, count in pending.values():
            one = entry(decision, link, self._wall_ms(), count)
            line, link = encode(one)
            self._unwritten.append(line)
            entries.append(one)
        self._link = link
        while len(self._unwritten) > WAITING:
            self._unwritten.popleft()
            self.lost += 1
        return entries

    async def _write(self) -> None:
        lines = list(self._unwritten)
        try:
            await asyncio.to_thread(_append, self._root, b"".join(lines), self._size)
        except OSError as error:
            extra = {"code": "no_space" if is_full(error) else "bad_store"}
            log.error("the audit cannot be written, %d lines wait: %s", len(lines), error.strerror, extra=extra)
        else:
            for _ in lines:
                self._unwritten.popleft()


def files(root: Path) -> list[Path]:
    """The audit's files in `root`, oldest first."""
    older = [root / f"{NAME}.{number}" for number in range(KEPT - 1, 0, -1)]
    return [file for file in [*older, root / NAME] if file.exists()]


def lines(root: Path) -> Iterator[bytes]:
    """Every line in `root`, oldest first, without its newline. Raises OSError."""
    for file in files(root):
        with os.fdopen(open_read(file), "rb") as opened:
            for line in opened:
                yield line.rstrip(b"\n")


def _append(root: Path, content: bytes, size: int) -> None:
    """Adds whole lines, durably, or nothing. Raises OSError."""
    path = root / NAME
    if path.exists() and path.stat().st_size + len(content) > size:
        _rotate(root)
    descriptor = open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        before = os.fstat(descriptor).st_size
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)
    if not before:
        sync_folder(root)


def _rotate(root: Path) -> None:
    """audit.jsonl becomes audit.jsonl.1, and so on; the last one goes. A power cut leaves a number free, no more."""
    for number in range(KEPT - 1, 0, -1):
        older = root / (f"{NAME}.{number - 1}" if number > 1 else NAME)
        if older.exists():
            older.replace(root / f"{NAME}.{number}")


def _mend(root: Path) -> Link:
    """The chain's end. A last line without its newline was cut short by a power cut, and told to nobody: it goes."""
    path = root / NAME
    if path.exists():
        content = _read(path)
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            os.truncate(path, whole)
            log.warning("the last line of %s was cut short and is taken away", path)
    for file in reversed(files(root)):
        for line in reversed(_read(file).splitlines()):
            with contextlib.suppress(ValueError):
                return decode(line)[1]
    return Link()


def _read(file: Path) -> bytes:
    with os.fdopen(open_read(file), "rb") as opened:
        return opened.read()


def journal(one: Decision | Entry) -> None:
    """A decision as a line of the journal, with the fields that edged's lines have."""
    extra = {"model": one.model, "version": one.version, "code": one.code}
    times = f" ({one.count} times)" if isinstance(one, Entry) and one.count > 1 else ""
    by = f", by {one.by}" if one.by else ""
    log.log(logging.WARNING if one.code else logging.INFO, "%s%s%s", one.message, by, times, extra=extra)
