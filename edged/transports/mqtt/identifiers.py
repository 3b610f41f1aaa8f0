"""Packet identifiers of what is published, beside those that paho gives its SUBSCRIBEs on the same connection. No I/O.

paho counts its own from 1 and does not ask what is in use. A fetch on the data connection takes two for each chunk, so
that it comes round: ours keep out of its way.
"""

from __future__ import annotations

from typing import Final

_EVERY: Final = 65_535  # MQTT 5, 2.2.1: from 1
_AHEAD: Final = _EVERY // 4  # of paho's last one; ours are confirmed, or the connection gone, before it has got so far


class Identifiers:
    """Of one connection. The outbox's window is far smaller than the room that there is."""

    def __init__(self) -> None:
        self._last = _EVERY // 2
        self._pahos = 0
        self._used: set[int] = set()

    def next(self) -> int:
        """One that is in use until it is given `back`."""
        while True:
            self._last = self._last % _EVERY + 1
            if (self._last - self._pahos) % _EVERY < _AHEAD:
                self._last = (self._pahos + _EVERY // 2) % _EVERY + 1
            if self._last not in self._used:
                self._used.add(self._last)
                return self._last

    def back(self, identifier: int) -> None:
        """The broker has answered it."""
        self._used.discard(identifier)

    def paho(self, identifier: int | None) -> int:
        """paho has given this one; None when it could not, which is 0 here."""
        self._pahos = identifier or self._pahos
        return identifier or 0
