"""Which broker the next connection goes to: those of `mqtt.url` in their order. No I/O, no clock.

- An attempt that failed: the next one, at once; after the last the first again, after a pause.
- A connection that ended: from the first on, or, when it had hardly begun, as after a failed attempt.
- While another than the first serves, the ones before it are looked for: after a minute, and half as often
  each time one was found and then did not take us, down to once an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from edged.config.addresses import Broker
from edged.transports.mqtt.versions import Versions

LOOK_S: Final = 60.0
_RAREST_S: Final = 3600.0


class Brokers:
    """`current` is the broker that is tried or serves; each keeps the MQTT version that it speaks."""

    def __init__(self, brokers: Sequence[Broker], version: Literal["auto", "5", "3.1.1"]) -> None:
        self._brokers: Final = tuple(brokers)
        self._versions: Final = [Versions(version) for _ in self._brokers]
        self._index = 0
        self._look_s = LOOK_S
        self._returning = False

    @property
    def current(self) -> Broker:
        return self._brokers[self._index]

    @property
    def versions(self) -> Versions:
        return self._versions[self._index]

    @property
    def better(self) -> tuple[Broker, ...]:
        """Those that come before the current one."""
        return self._brokers[: self._index]

    @property
    def look_s(self) -> float:
        """How long until those are looked for again."""
        return self._look_s

    def failed(self) -> bool:
        """Goes on to the next; whether to try it at once: not when the list begins anew."""
        if self._returning:
            self._returning = False
            self._look_s = min(self._look_s * 2, _RAREST_S)
        self._index = (self._index + 1) % len(self._brokers)
        return self._index != 0

    def lost(self) -> None:
        """A connection that was good has ended."""
        if self._index == 0:
            self._look_s = LOOK_S
        self._returning = False
        self._index = 0

    def go_back(self, broker: Broker) -> None:
        """One of those before the current one was seen."""
        self._index = self._brokers.index(broker)
        self._returning = True
