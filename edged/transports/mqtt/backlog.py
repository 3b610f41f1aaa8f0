"""Messages that the broker has to wait for, on the disk: filed in groups, read ahead (ahead.py), and let go.

The loop's side. Everything that blocks is done by segments.py in a thread of its own (clerk.py), one thing at a time;
what is kept here of messages is bounded: those that are being written, those that were read ahead, those under way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from edged.config import schema
from edged.transports.mqtt.ahead import Ahead
from edged.transports.mqtt.clerk import Clerk
from edged.transports.mqtt.clocks import Clocks
from edged.transports.mqtt.outbox import Publication, hand
from edged.transports.mqtt.records import Moment
from edged.transports.mqtt.retrieval import LOOK_S, Retrieval, tell_unread
from edged.transports.mqtt.segments import Segments, encoded, moments
from edged.transports.mqtt.stock import Part, Stock

_log = logging.getLogger(__name__)
_GROUP_S: Final = 0.05  # what comes within it shares a write and its fdatasync
_WRITING: Final = 16 * 2**20  # bytes that wait for the disk; one message may be larger
_HEAD: Final = 128  # bytes of a segment's head, and of a record beside what Publication.size counts, at most
_MARK_S: Final = 1.0
_AGAIN_S: Final = 5.0  # after the folder could not be opened, or what is carried not be written
_FAILED: Final = "outbox_failed"
_FULL: Final = "outbox_full"
_DAMAGED: Final = "outbox_damaged"


class Stored(msgspec.Struct, frozen=True):
    """What is safe on the disk, for the status. `fault` is why nothing can be filed there, "" when it can.

    `aside` files cannot be read now, `unread` says why; what is in them counts where it is known.
    """

    messages: int = 0
    bytes: int = 0
    fault: str = ""
    aside: int = 0
    unread: str = ""


class Backlog:
    """`dropped` is told the reason of each message that is given up, `ready` when `next` may have one again."""

    def __init__(
        self,
        segments: Segments,
        settings: schema.Outbox,
        now: Callable[[], Moment],
        *,
        dropped: Callable[[str], None],
        ready: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._segments = segments
        self._settings = settings
        self._now = now
        self._dropped = dropped
        self._ready = ready
        self._clock = clock
        self._stock = Stock(settings.size, settings.overflow)
        self._ahead = Ahead(self._stock, settings, now, dropped=self._give_up, later=self._later, clock=clock)
        self._clerk = Clerk()
        self._retrieval = Retrieval(segments, self._stock, self._ahead, self._clerk, self._damaged, clock)
        self._opened = False
        self._wake = asyncio.Event()
        self._pause_s = LOOK_S  # until the next step at the latest
        self._task: asyncio.Task[None] | None = None
        self._ending = False
        self._writing: list[Publication] = []
        self._writing_bytes = 0
        self._carried: set[Publication] = set()
        self._carry: list[Publication] | None = None  # to be written in the place of what was carried
        self._timer: asyncio.TimerHandle | None = None
        self._marked, self._marked_s = (0, 0), 0.0

    def __len__(self) -> int:
        """Messages that are on the disk or on their way to it, and not done."""
        return len(self._stock) + len(self._writing)

    @property
    def facts(self) -> Stored:
        aside = self._stock.aside
        unread = f"{len(aside)} files of the outbox cannot be read: {aside[0].shut}" if aside else ""
        return Stored(len(self._stock), self._stock.size, self._clerk.fault, len(aside), unread)

    def start(self) -> None:
        """Looks at what an earlier daemon has left; until that is done nothing is written."""
        self._task = asyncio.create_task(self._work())
        self._task.add_done_callback(_raise)

    async def stop(self, carried: Sequence[Publication]) -> None:
        """Files what is left, and what is in memory as `carried`. Blocks for as long as the disk does."""
        self.carry(carried)
        self._ending = True
        self._wake.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task
        self._clerk.end()

    # --- filing -----------------------------------------------------------------------------------------

    def file(self, message: Publication) -> None:
        """From now on it is ours: it is safe, and `handed`, when it is on the disk, or dropped."""
        if self._writing and self._writing_bytes + message.size > _WRITING:
            self._drop(message, _FULL)
            return
        self._writing.append(message)
        self._writing_bytes += message.size
        self._wake.set()

    def takes(self, message: Publication) -> bool:
        """Whether it would be filed, with nothing dropped for it."""
        size = message.size + _HEAD
        fits = self._stock.size + self._writing_bytes + size + _HEAD * len(self._writing) <= self._settings.size
        return fits and self._writing_bytes + message.size <= _WRITING and not self._clerk.fault

    def carry(self, messages: Sequence[Publication]) -> None:
        """What stays in memory, and goes first: also on the disk until it is `done`, in case this daemon ends."""
        if messages or self._carried:
            self._carry, self._carried = list(messages), set(messages)
            self._wake.set()

    def live(self, message: Publication) -> None:
        """A message goes past what lies here: an older one of its topic must not be what the broker keeps."""
        if message.retain and len(self):
            self._ahead.overtaken.add(message.topic, self._stock.following + len(self._writing))

    def _drop(self, message: Publication, reason: str) -> None:
        self._dropped(reason)
        hand(message)

    # --- for the outbox (outbox.Older) ----------------------------------------------------------------------

    def next(self) -> Publication | None:
        """The oldest message whose turn it is; none before what was in memory at the loss has gone."""
        message = None if self._carried else self._ahead.next()
        if message is not None:
            self._wake.set()
        return message

    def put_back(self, message: Publication) -> None:
        self._ahead.put_back(message.serial)

    def done(self, message: Publication) -> None:
        """The broker has it, or it was given up."""
        if message.serial:
            self._ahead.done(message.serial)
            self._wake.set()
        elif message in self._carried:
            self._carried.discard(message)
            if not self._carried and self._carry is None:
                self._carry = []
                self._wake.set()

    def lost(self) -> None:
        """The connection ended: what was under way goes again, in order."""
        self._ahead.lost()
        self._retrieval.lost()
        self._wake.set()

    def _give_up(self, reason: str) -> None:
        self._dropped(reason)
        self._wake.set()

    def _later(self, delay_s: float) -> None:
        if self._timer is None and not self._ending:
            self._timer = asyncio.get_running_loop().call_later(max(0.01, delay_s), self._due)

    def _due(self) -> None:
        self._timer = None
        self._ready()

    # --- the work, one thing at a time ------------------------------------------------------------------

    async def _work(self) -> None:
        while not self._ending:
            self._pause_s = LOOK_S
            await self._step()
            try:
                await asyncio.wait_for(self._wake.wait(), self._pause_s)
            except TimeoutError:
                continue
            self._wake.clear()
        await self._write()
        await self._put_down()
        if self._carry:
            _log.warning(
                "%d messages that the broker has not confirmed are lost: the disk does not take them", len(self._carry)
            )
            self._drop_all(len(self._carry), _FAILED)
        await self._clerk.attempt(partial(self._segments.mark, *self._stock.mark))
        await self._note()
        await self._clerk.attempt(self._segments.close)

    def _within(self, delay_s: float) -> None:
        self._pause_s = min(self._pause_s, max(0.0, delay_s))

    async def _open(self) -> bool:
        """Looks at what an earlier daemon has left, once the disk lets it; whether it has."""
        if self._opened:
            return True
        found = await self._clerk.write(self._segments.open)
        if found is None:
            self._within(_AGAIN_S)
            return False
        self._opened = True
        parts, damaged = found
        self._stock.found(parts)
        self._damaged(self._stock.lost + damaged)
        for part in self._stock.aside:
            tell_unread(part)
        if parts:
            self._ahead.overtaken.read(await self._clerk.do(self._segments.noted), self._stock.following)
        return True

    async def _step(self) -> None:
        await self._open()
        await self._put_down()
        if self._writing:
            await asyncio.sleep(0.0 if self._ending else _GROUP_S)
            await self._write()
        gone, old = self._stock.gone(self._now(), self._settings.age)
        self._drop_all(old, "outbox_old")
        await self._remove(gone)
        if not len(self):
            self._ahead.overtaken.clear()
        await self._remove(await self._retrieval.look_again())
        await self._read()
        await self._mark()

    async def _put_down(self) -> None:
        carry, self._carry = self._carry, None
        if carry is None:
            return
        now = self._now()
        left = [message for message in carry if message in self._carried]
        if await self._open():
            if await self._clerk.write(lambda: self._segments.carry(encoded(left, now), now.boot)) is not None:
                return
            self._within(_AGAIN_S)
        if self._carry is None:  # no other connection has ended meanwhile
            self._carry = left

    async def _write(self) -> None:
        """All that waits, in groups of which each fits a part."""
        while self._writing:
            size, count = 0, 0
            for message in self._writing:
                if count and size + message.size + _HEAD > self._settings.size // 16:
                    break
                size, count = size + message.size + _HEAD, count + 1
            group = self._writing[:count]
            filed = await self._file(group, size + _HEAD)
            if filed:
                self._ahead.overtaken.slip(self._stock.following, count)
            del self._writing[:count]
            self._writing_bytes -= sum(message.size for message in group)
            for message in group:
                if filed:
                    self._dropped(filed)
                hand(message)

    async def _file(self, group: list[Publication], size: int) -> str:
        """Why it could not, "" when the group is safe."""
        if not await self._open():
            return _FAILED
        gone = self._stock.room(size)
        if gone is None:
            return _FULL
        self._drop_all(sum(part.left if part.count else 1 for part in gone), _FULL)
        await self._remove(gone)
        first, new = self._stock.where(size)
        now = self._now()
        grown = await self._clerk.write(lambda: self._segments.append(first, encoded(group, now), now.boot, new=new))
        if grown is None:
            self._stock.closed()
            return _FAILED
        self._stock.filed(first, len(group), grown, now)
        return ""

    def _damaged(self, count: int) -> None:
        self._drop_all(count, _DAMAGED)

    def _drop_all(self, count: int, reason: str) -> None:
        for _ in range(count):
            self._dropped(reason)

    # --- the disk -----------------------------------------------------------------------------------------

    async def _read(self) -> None:
        if not self._ending and await self._retrieval.read():
            self._wake.set()
            self._ready()
        if self._retrieval.again_s is not None:
            self._within(self._retrieval.again_s - self._clock())

    async def _mark(self) -> None:
        """Once a second at most."""
        if self._stock.mark == self._marked and not self._ahead.overtaken.changed:
            return
        if (wait_s := self._marked_s + _MARK_S - self._clock()) > 0:
            self._within(wait_s)
            return
        self._marked, self._marked_s = self._stock.mark, self._clock()
        await self._clerk.attempt(partial(self._segments.mark, *self._marked))
        await self._note()

    async def _note(self) -> None:
        if self._ahead.overtaken.changed:
            await self._clerk.attempt(partial(self._segments.note, self._ahead.overtaken.written()))

    async def _remove(self, parts: Sequence[Part]) -> None:
        if parts:
            self._ahead.sift()
            await self._clerk.attempt(partial(self._segments.remove, [part.first for part in parts]))


def maker(
    folder: Path | None,
    settings: schema.Outbox,
    *,
    dropped: Callable[[str], None],
    clocks: Clocks,
) -> Callable[[Callable[[], None]], Backlog] | None:
    """What makes a backlog below `folder`, told of its `ready`; None where nothing is to be kept on the disk."""
    if folder is None or not settings.size:
        return None
    segments, now = Segments(folder), moments(clocks.wall_ms, clocks.synced)
    return lambda ready: Backlog(segments, settings, now, dropped=dropped, ready=ready, clock=clocks.now_s)


def _raise(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
