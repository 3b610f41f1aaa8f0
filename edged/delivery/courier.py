"""What delivery asks of whoever carries its documents, and how two who ask share one of it.

The real one is the second MQTT connection; tests/couriers.py has one over a broker in memory.
"""

from __future__ import annotations

from typing import Final, Protocol


class Courier(Protocol):
    """Both calls return at once; what arrives comes back by a callback of its own."""

    def listen(self, topics: frozenset[str]) -> None:
        """Exactly these topics from now on; one that is added brings its retained message anew."""

    def need(self, payload: bytes) -> None:
        """Publishes a need list for this box, QoS 0; while there is no connection it is dropped."""


class Shared:
    """One courier for several listeners, each with topics of its own."""

    def __init__(self, courier: Courier) -> None:
        self._courier: Final = courier
        self._topics: Final[dict[_Share, frozenset[str]]] = {}

    def share(self) -> Courier:
        """A courier whose topics are added to those of the others."""
        return _Share(self)

    def listen(self, share: _Share, topics: frozenset[str]) -> None:
        before = self._all()
        self._topics[share] = topics
        if (now := self._all()) != before:
            self._courier.listen(now)

    def need(self, payload: bytes) -> None:
        self._courier.need(payload)

    def _all(self) -> frozenset[str]:
        return frozenset().union(*self._topics.values())


class _Share:
    def __init__(self, shared: Shared) -> None:
        self._shared: Final = shared

    def listen(self, topics: frozenset[str]) -> None:
        self._shared.listen(self, topics)

    def need(self, payload: bytes) -> None:
        self._shared.need(payload)
