"""Messages read from the disk before their turn: handed out in order, at a rate, each until it is done. No I/O.

What goes past them, newer, is remembered (overtaken.py): an older message must not be what the broker retains.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from edged.config import schema
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.overtaken import Overtaken
from edged.transports.mqtt.records import Moment, Record
from edged.transports.mqtt.stock import Stock, fate

MOST: Final = 64  # messages
MOST_BYTES: Final = 2**20  # or so many bytes of them, or one message
_PATIENCE_S: Final = 300.0  # for the wall clock to be set


class Ahead:
    """`dropped` is told the reason of each message that is given up, `later(delay_s)` when `next` may have one again.

    `clock` is monotonic.
    """

    def __init__(
        self,
        stock: Stock,
        settings: schema.Outbox,
        now: Callable[[], Moment],
        *,
        dropped: Callable[[str], None],
        later: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._stock = stock
        self._settings = settings
        self._now = now
        self._dropped = dropped
        self._later = later
        self._clock = clock
        self._read: deque[tuple[int, str, Record]] = deque()  # serial number, boot
        self._under_way: dict[int, tuple[int, str, Record]] = {}
        self._tokens, self._filled_s = 1.0, clock()
        self._patient_s = clock() + _PATIENCE_S
        self.overtaken: Final = Overtaken()

    @property
    def enough(self) -> bool:
        """Whether there is no need to read on."""
        return len(self._read) >= MOST // 2 or sum(len(one.payload) for *_, one in self._read) >= MOST_BYTES

    def add(self, serial: int, boot: str, one: Record) -> None:
        """The next one of the disk."""
        self._read.append((serial, boot, one))

    def sift(self) -> None:
        """Parts are gone: with them what was read of them."""
        self._read = deque(entry for entry in self._read if self._stock.has(entry[0]))

    def next(self) -> Publication | None:
        """The oldest message, if it is its turn."""
        while self._read and self._has_token():
            serial, boot, one = entry = self._read[0]
            now = self._now()
            what = fate(one, boot, now, self._settings.age, patient=self._clock() < self._patient_s)
            if what.wait:
                self._later(1.0)
                return None
            self._read.popleft()
            if what.reason:
                self._dropped(what.reason)
                self._stock.finish(serial)
                continue
            self._tokens -= 1
            self._under_way[serial] = entry
            message = one.publication(serial, None if what.left_s is None else now.up_s + what.left_s)
            if message.retain and self.overtaken.has(one.topic, serial):
                message.retain = False
            return message
        return None

    def put_back(self, serial: int) -> None:
        """It could not go now."""
        entry = self._under_way.pop(serial, None)
        if entry is not None:
            self._tokens += 1
            self._read.appendleft(entry)

    def done(self, serial: int) -> None:
        self._under_way.pop(serial, None)
        self._stock.finish(serial)

    def lost(self) -> None:
        """What was under way goes again, in order: all is read again."""
        self._read.clear()
        self._under_way.clear()
        self._stock.rewind()

    def _has_token(self) -> bool:
        now_s, rate = self._clock(), self._settings.rate
        self._tokens = min(max(1.0, rate / 10), self._tokens + (now_s - self._filled_s) * rate)
        self._filled_s = now_s
        if self._tokens >= 1:
            return True
        self._later((1 - self._tokens) / rate)
        return False
