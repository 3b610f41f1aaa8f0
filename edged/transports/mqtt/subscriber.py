"""What the data connection listens to: told to the broker one SUBSCRIBE after the other, and when all of it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from edged.transports.mqtt.packets import Greeting
from edged.transports.mqtt.subscriptions import Subscription, Subscriptions
from edged.transports.mqtt.wire import Wire

_log = logging.getLogger(__name__)
_SUBSCRIBING_S: Final = 5.0


class Subscriber:
    """`wire` gives the connection that is up, if any; `opened(greeting)` is called once on each: everything is
    subscribed to, or the broker does not answer.
    """

    def __init__(
        self,
        wire: Callable[[], Wire | None],
        own: Sequence[Subscription],
        foreign: Sequence[Subscription],
        opened: Callable[[Greeting], None],
        clock: Callable[[], float],
    ) -> None:
        self._wire = wire
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
        for batch in self._subscriptions.adopt(own, foreign):
            self._unsubscribe(batch)
        self.turn()

    def up(self, said: Greeting) -> None:
        """A connection."""
        self._subscriptions.begin(shares=said.shares)
        for batch in self._subscriptions.stale() if said.session_present else ():
            self._unsubscribe(batch)
        self._unopened = said
        asyncio.get_running_loop().call_later(_SUBSCRIBING_S, self._open, said)
        self.turn()

    def down(self) -> None:
        self._unopened, self._mid = None, 0
        if twice := self._subscriptions.lost():
            _log.warning("the broker closes the connection over %s: may this user read it?", ", ".join(twice))

    def turn(self) -> None:
        """Asks for what is due; there is one question at a time."""
        wire = self._wire()
        if wire is not None and wire.open and (batch := self._subscriptions.next()) is not None:
            self._mid = wire.subscribe(batch)
        if self._unopened is not None and self._subscriptions.done:
            self._open(self._unopened)

    def answered(self, mid: int, granted: Sequence[bool]) -> None:
        """The SUBACK to the SUBSCRIBE with this packet identifier, one flag a filter."""
        if mid != self._mid:
            return
        self._mid = 0
        for wire in self._subscriptions.answered(granted):
            _log.warning("the broker does not let this box subscribe to %s", wire)

    def _open(self, said: Greeting) -> None:
        if self._unopened is said:
            self._unopened = None
            self._open_number = said.number
            self._opened(said)

    def _unsubscribe(self, filters: Sequence[str]) -> None:
        wire = self._wire()
        if wire is not None and wire.open:
            wire.unsubscribe(filters)
