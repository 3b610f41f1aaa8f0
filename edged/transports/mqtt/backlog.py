"""Messages that the broker has to wait for, on the disk: filed in groups, read ahead, handed out at a rate, and let go.

The loop's side. Everything that blocks is done by segments.py in a thread of its own, one thing at a time; what is kept
here of messages is bounded: those that are being written, those that were read ahead, and those under way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from edged.config import schema
from edged.transports.mqtt.outbox import Publication, hand
from edged.transports.mqtt.records import Moment, Record
from edged.transports.mqtt.segments import Segments, encoded, moments
from edged.transports.mqtt.stock import Part, Stock, fate

T = TypeVar("T")
_log = logging.getLogger(__name__)
_GROUP_S: Final = 0.05  # what comes within it shares a write and its fdatasync
_WRITING: Final = 16 * 2**20  # bytes that wait for the disk; one message may be larger
_HEAD: Final = 128  # bytes of a segment's head, and of a record beside what Publication.size counts, at most
_AHEAD: Final = 64  # messages read ahead
_AHEAD_BYTES: Final = 2**20  # or so many bytes of them, or one message
_MARK_S: Final = 1.0
_LOOK_S: Final = 60.0  # how often it is looked for what has become too old
_PATIENCE_S: Final = 300.0  # for the wall clock to be set
_OVERTAKEN: Final = 4096
_FAILED: Final = "outbox_failed"
_FULL: Final = "outbox_full"


class Stored(msgspec.Struct, frozen=True):
    """What is safe on the disk, for the status; `fault` is why nothing can be filed there, "" when it can."""

    messages: int = 0
    bytes: int = 0
    fault: str = ""


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
        self._pool = ThreadPoolExecutor(1, "edged-mqtt-outbox")
        self._opened = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ending = False
        self._fault = ""
        self._writing: list[Publication] = []
        self._writing_bytes = 0
        self._carried: set[Publication] = set()
        self._carry: list[Publication] | None = None  # to be written in the place of what was carried
        self._ahead: deque[tuple[int, str, Record]] = deque()
        self._under_way: dict[int, tuple[int, str, Record]] = {}
        self._turns = 0  # a read that was begun before a loss is of no use after it
        self._tokens, self._filled_s = 1.0, clock()
        self._timer: asyncio.TimerHandle | None = None
        self._patient_s = clock() + _PATIENCE_S
        self._marked = (0, 0)
        self._mark_timer: asyncio.TimerHandle | None = None
        self._overtaken: set[str] = set()

    def __len__(self) -> int:
        """Messages that are on the disk or on their way to it, and not done."""
        return len(self._stock) + len(self._writing)

    @property
    def facts(self) -> Stored:
        return Stored(len(self._stock), self._stock.size, self._fault)

    def start(self) -> None:
        """Looks at what an earlier daemon has left; until that is done nothing is written."""
        self._task = asyncio.create_task(self._work())
        self._task.add_done_callback(_raise)

    async def stop(self, carried: Sequence[Publication]) -> None:
        """Files what is left, and what is in memory as `carried`. Blocks for as long as the disk does."""
        self.carry(carried)
        self._ending = True
        self._wake.set()
        for timer in (self._timer, self._mark_timer):
            if timer is not None:
                timer.cancel()
        if self._task is not None:
            await self._task
        self._pool.shutdown(wait=False)

    # --- filing -----------------------------------------------------------------------------------------

    def file(self, message: Publication) -> None:
        """From now on it is ours: it is safe, and `handed`, when it is on the disk, or dropped."""
        if self._writing and self._writing_bytes + message.size > _WRITING:
            self._drop(message, _FULL)
            return
        self._writing.append(message)
        self._writing_bytes += message.size
        self._wake.set()

    def carry(self, messages: Sequence[Publication]) -> None:
        """What stays in memory, and goes first: also on the disk until it is `done`, in case this daemon ends."""
        if messages or self._carried:
            self._carry, self._carried = list(messages), set(messages)
            self._wake.set()

    def live(self, message: Publication) -> None:
        """A message goes past what lies here: an older one of its topic must not be what the broker keeps."""
        if message.retain and len(self) and len(self._overtaken) < _OVERTAKEN:
            self._overtaken.add(message.topic)

    def _drop(self, message: Publication, reason: str) -> None:
        self._dropped(reason)
        hand(message)

    # --- for the outbox (outbox.Older) ----------------------------------------------------------------------

    def next(self) -> Publication | None:
        """The oldest message whose turn it is; none before what was in memory at the loss has gone."""
        while self._ahead and not self._carried and self._has_token():
            serial, boot, one = entry = self._ahead[0]
            patient = self._clock() < self._patient_s
            what = fate(one, boot, self._now(), self._settings.age, patient=patient)
            if what.wait:
                self._later(1.0)
                return None
            self._ahead.popleft()
            self._wake.set()
            if what.reason:
                self._dropped(what.reason)
                self._stock.finish(serial)
                continue
            self._tokens -= 1
            self._under_way[serial] = entry
            expires_s = None if what.left_s is None else self._clock() + what.left_s
            message = one.publication(serial, expires_s)
            if one.topic in self._overtaken or len(self._overtaken) >= _OVERTAKEN:
                message.retain = False
            return message
        return None

    def put_back(self, message: Publication) -> None:
        entry = self._under_way.pop(message.serial, None)
        if entry is not None:
            self._tokens += 1
            self._ahead.appendleft(entry)

    def done(self, message: Publication) -> None:
        """The broker has it, or it was given up."""
        if message.serial:
            self._under_way.pop(message.serial, None)
            self._stock.finish(message.serial)
            self._wake.set()
        elif message in self._carried:
            self._carried.discard(message)
            if not self._carried and self._carry is None:
                self._carry = []
                self._wake.set()

    def lost(self) -> None:
        """The connection ended: what was under way goes again, in order."""
        self._ahead.clear()
        self._under_way.clear()
        self._turns += 1
        self._stock.rewind()
        self._wake.set()

    def _has_token(self) -> bool:
        now_s, rate = self._clock(), self._settings.rate
        self._tokens = min(max(1.0, rate / 10), self._tokens + (now_s - self._filled_s) * rate)
        self._filled_s = now_s
        if self._tokens >= 1:
            return True
        self._later((1 - self._tokens) / rate)
        return False

    def _later(self, delay_s: float) -> None:
        if self._timer is None and not self._ending:
            self._timer = asyncio.get_running_loop().call_later(max(0.01, delay_s), self._due)

    def _due(self) -> None:
        self._timer = None
        self._ready()

    # --- the work, one thing at a time ------------------------------------------------------------------

    async def _work(self) -> None:
        await self._open()
        while not self._ending:
            await self._step()
            try:
                await asyncio.wait_for(self._wake.wait(), _LOOK_S)
            except TimeoutError:
                continue
            self._wake.clear()
        await self._write()
        await self._put_down()
        await self._try(partial(self._segments.mark, *self._stock.mark))
        await self._try(self._segments.close)

    async def _open(self) -> bool:
        """Looks at what an earlier daemon has left, once the disk lets it; whether it has."""
        if self._opened:
            return True
        found = await self._try(self._segments.open, writes=True)
        if found is not None:
            self._opened = True
            parts, damaged = found
            self._stock.found(parts)
            for _ in range(self._stock.lost + damaged):
                self._dropped("outbox_damaged")
        return self._opened

    async def _step(self) -> None:
        await self._put_down()
        if self._writing:
            await asyncio.sleep(0.0 if self._ending else _GROUP_S)
            await self._write()
        gone, old = self._stock.gone(self._now(), self._settings.age)
        for _ in range(old):
            self._dropped("outbox_old")
        await self._remove(gone)
        if not len(self):
            self._overtaken.clear()
        await self._read()
        await self._mark()

    async def _put_down(self) -> None:
        carry, self._carry = self._carry, None
        if carry is not None and await self._open():
            now, now_s = self._now(), self._clock()
            await self._try(lambda: self._segments.carry(encoded(carry, now, now_s), now.boot), writes=True)

    async def _write(self) -> None:
        """All that waits, in groups of which each fits a part."""
        while self._writing:
            size, count = 0, 0
            for message in self._writing:
                if count and size + message.size + _HEAD > self._settings.size // 16:
                    break
                size, count = size + message.size + _HEAD, count + 1
            group = self._writing[:count]
            await self._file(group, size + _HEAD)
            del self._writing[:count]
            self._writing_bytes -= sum(message.size for message in group)

    async def _file(self, group: list[Publication], size: int) -> None:
        if not await self._open():
            for message in group:
                self._drop(message, _FAILED)
            return
        gone = self._stock.room(size)
        if gone is None:
            for message in group:
                self._drop(message, _FULL)
            return
        for _ in range(sum(part.left for part in gone)):
            self._dropped(_FULL)
        await self._remove(gone)
        first, new = self._stock.where(size)
        now, now_s = self._now(), self._clock()
        grown = await self._try(
            lambda: self._segments.append(first, encoded(group, now, now_s), now.boot, new=new), writes=True
        )
        if grown is None:
            self._stock.closed()
            for message in group:
                self._drop(message, _FAILED)
            return
        self._stock.filed(first, len(group), grown, now)
        for message in group:
            hand(message)

    async def _read(self) -> None:
        """Reads on where few are left ahead."""
        found = self._stock.next()
        enough = len(self._ahead) >= _AHEAD // 2 or sum(len(one.payload) for *_, one in self._ahead) >= _AHEAD_BYTES
        if found is None or enough or self._ending:
            return
        part, number = found
        turns, count = self._turns, min(_AHEAD, part.count - number)
        read = await self._try(partial(self._segments.read, part.first, number, count, _AHEAD_BYTES))
        if turns != self._turns or not self._stock.has(part.first):
            self._wake.set()
            return
        boot, records = read if read is not None else ("", [])
        if not records:
            for _ in range(part.left):
                self._dropped("outbox_damaged")
            self._stock.give_up(part)
            await self._remove([part])
        for serial, one in zip(self._stock.read(part, len(records)), records, strict=True):
            if serial:
                self._ahead.append((serial, boot, one))
        self._wake.set()
        self._ready()

    async def _mark(self) -> None:
        """Once a second at most."""
        if self._stock.mark != self._marked and self._mark_timer is None and not self._ending:
            self._marked = self._stock.mark
            await self._try(partial(self._segments.mark, *self._marked))
            self._mark_timer = asyncio.get_running_loop().call_later(_MARK_S, self._mark_again)

    def _mark_again(self) -> None:
        self._mark_timer = None
        self._wake.set()

    async def _remove(self, parts: Sequence[Part]) -> None:
        if parts:
            self._ahead = deque(entry for entry in self._ahead if self._stock.has(entry[0]))
            await self._try(partial(self._segments.remove, [part.first for part in parts]))

    async def _try(self, step: Callable[[], T], *, writes: bool = False) -> T | None:
        """Does it in the thread; None when the disk would not. That nothing can be written is told once."""
        try:
            done = await asyncio.get_running_loop().run_in_executor(self._pool, step)
        except OSError as error:
            _log.debug("the outbox: %s", error)
            if writes:
                self._tell(f"the outbox cannot be written: {error.strerror or error}")
            return None
        if writes:
            self._tell("")
        return done

    def _tell(self, fault: str) -> None:
        if fault and fault != self._fault:
            _log.error("%s; results are dropped while the broker is away", fault)
        elif self._fault and not fault:
            _log.info("the outbox can be written again")
        self._fault = fault


def maker(
    folder: Path | None,
    settings: schema.Outbox,
    *,
    dropped: Callable[[str], None],
    clock: Callable[[], float],
    wall_ms: Callable[[], int],
    synced: Callable[[], bool],
) -> Callable[[Callable[[], None]], Backlog] | None:
    """What makes a backlog below `folder`, told of its `ready`; None where nothing is to be kept on the disk."""
    if folder is None or not settings.size:
        return None
    segments, now = Segments(folder), moments(wall_ms, synced)
    return lambda ready: Backlog(segments, settings, now, dropped=dropped, ready=ready, clock=clock)


def _raise(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
