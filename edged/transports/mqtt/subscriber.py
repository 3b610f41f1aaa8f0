"""What the data connection listens to: one question to the broker at a time, for inputs first, then for pushes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from edged.transports.mqtt.aboard import Aboard
from edged.transports.mqtt.ends import End
from edged.transports.mqtt.packets import Greeting
from edged.transports.mqtt.subscriptions import Subscription, Subscriptions
from edged.transports.mqtt.wire import Wire

_log = logging.getLogger(__name__)
_SUBSCRIBING_S: Final = 5.0


class Subscriber:
    """`wire` gives the connection that is up, if any; `opened(greeting)` is called once on each: everything but pushes
    is subscribed to, or the broker does not answer.
    """

    def __init__(
        self,
        wire: Callable[[], Wire | None],
        own: Sequence[Subscription],
        foreign: Sequence[Subscription],
        aboard: Aboard,
        opened: Callable[[Greeting], None],
        clock: Callable[[], float],
    ) -> None:
        self._wire = wire
        self._aboard = aboard
        self._timer: asyncio.TimerHandle | None = None
        self._opened = opened
        self._subscriptions = Subscriptions(own, foreign, clock)
        self._mid = 0  # of the SUBSCRIBE that waits for its answer
        self._unopened: Greeting | None = None
        self._open_number = 0  # of the last connection that was opened

    @property
    def open(self) -> bool:
        """Whether whoever is told that this box is online now is heard."""
        wire = self._wire()
        return wire is not None and wire.number == self._open_number

    @property
    def refused(self) -> tuple[str, ...]:
        return tuple(sorted(self._subscriptions.refused))

    @property
    def quarantined(self) -> tuple[str, ...]:
        return self._subscriptions.quarantined

    def adopt(self, own: Sequence[Subscription], foreign: Sequence[Subscription]) -> None:
        """Other topics; what is gone is unsubscribed from."""
        self._subscriptions.adopt(own, foreign)
        self.turn()

    def up(self, said: Greeting, had: Iterable[str]) -> None:
        """A connection; `had`: what the box was said to listen to."""
        self._subscriptions.had(had)
        self._subscriptions.begin(shares=said.shares, kept=said.session_present)
        self._unopened = said
        asyncio.get_running_loop().call_later(_SUBSCRIBING_S, self._open, said)
        self.turn()

    def down(self, end: End) -> None:
        self._unopened, self._mid = None, 0
        self._aboard.lost(end)
        if twice := self._subscriptions.lost():
            _log.warning("the broker closes the connection over %s: may this user read it?", ", ".join(twice))

    def turn(self) -> None:
        """Asks for what is due; there is one question at a time."""
        wire = self._wire()
        if wire is None or not wire.open:
            return
        if not self._aboard.waiting and (batch := self._subscriptions.next()) is not None:
            self._mid = wire.subscribe(batch)
        if self._subscriptions.done:
            for filters in self._subscriptions.gone():
                wire.unsubscribe(filters)
            if self._unopened is not None:
                self._open(self._unopened)
            self._ask(wire)

    def _ask(self, wire: Wire) -> None:
        """What pushes on this connection need."""
        while (question := self._aboard.next(busy=wire.busy)) is not None:
            if question.kind == "gone":
                wire.unsubscribe(question.filters)
                continue
            batch = [Subscription(one, 1) for one in question.filters]
            documents = question.kind == "documents"
            self._mid = wire.subscribe(batch, again=documents, retain_as_published=not documents)
        if self._timer is None and (delay_s := self._aboard.again_s) is not None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        self._timer = None
        self._aboard.look()
        self.turn()

    def answered(self, mid: int, refusals: Sequence[str]) -> None:
        """The SUBACK to the SUBSCRIBE with this packet identifier: why a filter is refused, "" where it is granted."""
        if mid != self._mid:
            return
        self._mid = 0
        if self._aboard.waiting:
            self._aboard.answered(refusals)
            return
        for wire in self._subscriptions.answered([not one for one in refusals]):
            _log.warning("the broker does not let this box subscribe to %s", wire)

    def _open(self, said: Greeting) -> None:
        if self._unopened is said:
            self._unopened = None
            self._open_number = said.number
            self._opened(said)
            self._aboard.opened(session_present=said.session_present)
