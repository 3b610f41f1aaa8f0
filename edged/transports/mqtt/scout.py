"""While another broker than the first of `mqtt.url` serves: looks whether one before it is back."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Sequence

from edged.config.addresses import Broker


class Scout:
    """`answers(broker)` blocks and is called in a thread; `found(broker)` is called in the loop, once a `watch`."""

    def __init__(self, answers: Callable[[Broker], bool], found: Callable[[Broker], None]) -> None:
        self._answers = answers
        self._found = found
        self._timer: asyncio.TimerHandle | None = None
        self._watching: object = None

    def watch(self, brokers: Sequence[Broker], every_s: float) -> None:
        """Looks every so often, spread so that a fleet does not come at once, until one is found or `rest`."""
        self.rest()
        self._watching = watching = object()
        self._later(watching, brokers, every_s)

    def rest(self) -> None:
        self._watching = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _later(self, watching: object, brokers: Sequence[Broker], every_s: float) -> None:
        loop = asyncio.get_running_loop()
        spread_s = every_s * random.uniform(0.75, 1.25)  # noqa: S311  not a secret
        self._timer = loop.call_later(spread_s, self._look, watching, brokers, every_s, loop)

    def _look(self, *arguments: object) -> None:
        self._timer = None
        threading.Thread(target=self._in_thread, args=arguments, name="edged-mqtt-scout", daemon=True).start()

    def _in_thread(
        self, watching: object, brokers: Sequence[Broker], every_s: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        seen = next((broker for broker in brokers if self._answers(broker)), None)
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._looked, watching, brokers, every_s, seen)

    def _looked(self, watching: object, brokers: Sequence[Broker], every_s: float, seen: Broker | None) -> None:
        if self._watching is not watching:
            return
        if seen is None:
            self._later(watching, brokers, every_s)
        else:
            self.rest()
            self._found(seen)
