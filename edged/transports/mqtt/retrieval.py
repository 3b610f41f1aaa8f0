"""What lies in the outbox's files is read ahead of its turn; what cannot be read now is tried again, and set aside.

Set aside, it keeps nothing else waiting: once a minute it is looked at again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from edged.transports.mqtt.ahead import MOST, MOST_BYTES, Ahead
from edged.transports.mqtt.clerk import Clerk
from edged.transports.mqtt.segments import Segments, is_short
from edged.transports.mqtt.stock import Part, Stock

_log = logging.getLogger(__name__)
LOOK_S: Final = 60.0  # how often it is looked for what has become too old, or can be read again
_TRIES: Final = 5  # over half a minute; then others are not to wait for it


class Retrieval:
    """Every call is one step of the backlog's work. `damaged(count)` is told of messages that are gone.

    `again_s`: when `read` is due although nothing has changed, by `clock`; None for no such time.
    """

    def __init__(
        self,
        segments: Segments,
        stock: Stock,
        ahead: Ahead,
        clerk: Clerk,
        damaged: Callable[[int], None],
        clock: Callable[[], float],
    ) -> None:
        self._segments = segments
        self._stock = stock
        self._ahead = ahead
        self._clerk = clerk
        self._damaged = damaged
        self._clock = clock
        self._turns = 0  # a read that was begun before a loss is of no use after it
        self._failures = 0  # reads that failed in a row
        self._looked_s = clock()
        self.again_s: float | None = None

    def lost(self) -> None:
        """The connection ended: what is being read is read again."""
        self._turns += 1

    async def read(self) -> bool:
        """Reads on where few are left ahead; whether there may be more to do at once."""
        found = self._stock.next()
        if found is not None and self.again_s is not None and self._clock() < self.again_s:
            return False
        self.again_s = None
        if found is None or self._ahead.enough:
            return False
        part, number = found
        turns, count = self._turns, min(MOST, part.count - number)
        try:
            boot, records = await self._clerk.do(partial(self._segments.read, part.first, number, count, MOST_BYTES))
        except FileNotFoundError:  # somebody has taken it away
            boot, records = "", []
        except OSError as error:
            return await self._unreadable(part, error)
        self._failures = 0
        if turns != self._turns or not self._stock.has(part.first):
            return True
        if not records:
            self._damaged(self._stock.cut(part))
        for serial, one in zip(self._stock.read(part, len(records)), records, strict=True):
            if serial and one is None:
                self._damaged(1)
                self._stock.finish(serial)
            elif serial and one is not None:
                self._ahead.add(serial, boot, one)
        return True

    async def _unreadable(self, part: Part, error: OSError) -> bool:
        """It is tried again; what the disk will not give up does not stand in the way of others for ever."""
        self._failures += 1
        if self._failures < _TRIES or is_short(error):
            self.again_s = self._clock() + min(2.0 ** (self._failures - 1), LOOK_S)
            _log.warning("the outbox cannot be read, which is tried again: %s", error.strerror or error)
            return False
        self._failures, self._looked_s = 0, self._clock()
        self._stock.shut(part, error.strerror or str(error))
        tell_unread(part)
        await self._clerk.attempt(partial(self._segments.aside, part))
        return True

    async def look_again(self) -> list[Part]:
        """Once a minute at what could not be read; returns those in which there is nothing any more."""
        if not self._stock.aside or self._clock() - self._looked_s < LOOK_S:
            return []
        self._looked_s = self._clock()
        empty = []
        for part in self._stock.aside:
            try:
                found = await self._clerk.do(partial(self._segments.again, part.first))
            except FileNotFoundError:
                found = None
            except OSError:
                continue
            if found is None:
                self._damaged(part.left if part.count else 1)
                self._stock.forget(part)
                empty.append(part)
                continue
            _log.info("a file of the outbox can be read again")
            self._damaged(self._stock.opened(found))
        return empty


def tell_unread(part: Part) -> None:
    """Says once of a file that what is in it waits."""
    text = "a file of the outbox cannot be read (%s): what is in it waits until it can, and all else goes on"
    _log.error(text, part.shut, extra={"code": "outbox_unread"})
