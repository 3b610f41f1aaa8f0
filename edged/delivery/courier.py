"""What delivery asks of whoever carries its documents.

The real one is the second MQTT connection; tests/couriers.py has one over a broker in memory.
"""

from __future__ import annotations

from typing import Protocol


class Courier(Protocol):
    """Both calls return at once; what arrives comes back by a callback of its own."""

    def listen(self, topics: frozenset[str]) -> None:
        """Exactly these topics from now on; one that is added brings its retained message anew."""

    def need(self, payload: bytes) -> None:
        """Publishes a need list for this box, QoS 0; while there is no connection it is dropped."""
