"""Everything that leaves: QoS 1 through the outbox, QoS 0 straight to the connection or not at all.

What is made at QoS 1 while the broker is away goes to the disk, and so does what finds no room in memory; what memory
held when the broker went stays there, and goes first. What finds no room on the disk either, while the broker is
there, goes at QoS 0 instead of being dropped: a broker that pushes a burst of inputs without waiting for their
acknowledgements (Mosquitto 2.0.11, measured) confirms no result before all of them are read.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final

import msgspec

from edged.transports.mqtt.backlog import Backlog, Stored
from edged.transports.mqtt.counts import Counts
from edged.transports.mqtt.ends import End
from edged.transports.mqtt.outbox import Outbox, Publication, hand
from edged.transports.mqtt.packets import Greeting
from edged.transports.mqtt.wire import Wire

_log = logging.getLogger(__name__)
_UNSENT: Final = 2**20  # bytes that the socket has not taken yet: from then on QoS 0 messages are dropped
_SAY_S: Final = 60.0


class Outlet:
    """`wire` gives the connection that is up, if any; `status` is the topic of `online`.

    `backlog(ready)` makes what keeps messages on the disk; without it all of them wait in memory.
    """

    def __init__(
        self,
        wire: Callable[[], Wire | None],
        status: str,
        counts: Counts,
        backlog: Callable[[Callable[[], None]], Backlog] | None = None,
    ) -> None:
        self._wire = wire
        self._counts = counts
        self._backlog = None if backlog is None else backlog(self.pump)
        self._outbox = Outbox(counts.drop, last=status, older=self._backlog)
        self._drained = asyncio.Event()
        self._pumping = False
        self._said_s = -math.inf  # when the journal was told that there is no room

    def __len__(self) -> int:
        return self._outbox.here + (0 if self._backlog is None else len(self._backlog))

    @property
    def stored(self) -> Stored:
        return Stored() if self._backlog is None else self._backlog.facts

    def start(self) -> None:
        if self._backlog is not None:
            self._backlog.start()

    async def stop(self) -> None:
        """The connection has ended for good: what is left waits for the next start, as far as there is a disk."""
        self.lost()
        left = self._outbox.waiting()
        if self._backlog is not None:
            await self._backlog.stop(left)
        elif left:
            _log.warning("%d messages were not confirmed by the broker before the end", len(left))

    @property
    def packet_limit(self) -> int:
        """The broker's largest packet in bytes, as far as known."""
        return self._outbox.packet_limit

    def opened(self, said: Greeting) -> None:
        self._outbox.opened(said.receive_maximum, said.packet_limit)
        self.pump()

    def lost(self, end: End = End.AWAY) -> None:
        self._outbox.lost(end)
        if self._backlog is not None:
            self._backlog.carry(self._outbox.waiting())

    def confirmed(self, mid: int, refusal: str) -> None:
        self._outbox.confirmed(mid, refusal)

    def retain(self, topic: str, payload: bytes) -> None:
        self._outbox.retain(topic, payload)
        self.pump()

    def publish(self, message: Publication) -> None:
        if message.qos:
            self._publish(message)
            return
        reason = self._send(message)
        if reason:
            self._counts.drop(reason)
        if message.handed is not None:
            message.handed()

    def _publish(self, message: Publication) -> None:
        away, full = self._wire() is None, self._outbox.full(message)
        if full and not away and self._downgraded(message):
            return
        if self._backlog is None:
            self._outbox.put(message)
        elif away or full:
            self._backlog.file(message)
            return
        else:
            self._backlog.live(message)
            self._outbox.put(message)
        self.pump()

    def _downgraded(self, message: Publication) -> bool:
        """Whether it has gone at QoS 0, as neither memory nor disk has room for it."""
        backlog = self._backlog
        if (backlog is not None and backlog.takes(message)) or not self._outbox.trusts(message):
            return False
        if self._send(msgspec.structs.replace(message, qos=0)):
            return False
        if backlog is not None:
            backlog.live(message)
        self._counts.downgraded += 1
        if (now_s := time.monotonic()) - self._said_s > _SAY_S:
            self._said_s = now_s
            _log.warning("the broker confirms too slowly, and mqtt.outbox is full: results go at QoS 0 meanwhile")
        hand(message)
        return True

    def _send(self, message: Publication) -> str:
        """A QoS 0 message: "" when it is on its way, else why not."""
        wire = self._wire()
        if wire is None:
            return "offline"
        if message.size > self.packet_limit:
            return "output_too_large"
        if wire.unsent > _UNSENT:
            return "slow_broker"
        if wire.publish(message) is None:
            return "offline"
        self._counts.published += 1
        return ""

    def pump(self) -> None:
        """Hands the connection as much as the window allows.

        What is refused on the way may publish that it was: it joins the queue that is being emptied. Were it pumped
        from in there, thousands of results above the limit of a broker that has another one now would end the stack.
        """
        if self._pumping:
            return
        self._pumping = True
        try:
            self._pump()
        finally:
            self._pumping = False

    def _pump(self) -> None:
        while (wire := self._wire()) is not None and (message := self._outbox.next()) is not None:
            mid = wire.publish(message)
            if mid is None:
                self._outbox.put_back(message)
                break
            self._counts.published += 1
            self._outbox.sent(mid, message)
        if len(self._outbox):
            self._drained.clear()
        else:
            self._drained.set()

    async def drained(self, limit_s: float) -> bool:
        """Whether the broker has confirmed everything within the limit."""
        self.pump()
        try:
            await asyncio.wait_for(self._drained.wait(), limit_s)
        except TimeoutError:
            return False
        return True
