"""Results that the broker retains: which topics have one of ours, and which are to have none any more. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_TOPICS: Final = 4096
_LONGEST: Final = 1024  # letters; a sender writes the levels, and longer ones would not be kept in mind by the thousand


class Kept:
    """As far as this daemon has published them; the oldest are forgotten where there are thousands."""

    def __init__(self) -> None:
        self._topics: dict[str, tuple[str, str]] = {}

    def add(self, topic: str, model: str, template: str) -> None:
        """A result of `model` under its output's topic, as the configuration writes that."""
        if len(topic) > _LONGEST:
            return
        if len(self._topics) >= _TOPICS and topic not in self._topics:
            del self._topics[next(iter(self._topics))]
        self._topics[topic] = model, template

    def take_back(self, keeps: Callable[[str, str], bool]) -> list[str]:
        """Those of which `keeps(model, template)` says that nothing is kept there now; they are forgotten."""
        gone = [topic for topic, one in self._topics.items() if not keeps(*one)]
        for topic in gone:
            del self._topics[topic]
        return gone
