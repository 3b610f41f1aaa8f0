"""Which MQTT version the next connection speaks: 5 first, 3.1.1 when the broker does not (docs/mqtt-api.md)."""

from __future__ import annotations

import enum
from typing import Final, Literal

Version = Literal["5", "3.1.1"]

# A broker without MQTT 5 says so in its CONNACK, closes without one, or never answers: measured on six
# brokers. A single close may be anything; a broker that has worked before gets more patience, so that
# one that restarts behind a proxy is not taken for an older one.
_CLOSES: Final = 2
_CLOSES_ONCE_WORKED: Final = 6


class Ending(enum.Enum):
    """How an attempt ended before a good CONNACK."""

    UNSUPPORTED = "unsupported"  # the CONNACK names the protocol version
    SILENT = "silent"  # nothing came within 5 s
    CLOSED = "closed"  # closed without a CONNACK


class Versions:
    """The version to speak next, from the setting and from how attempts ended."""

    def __init__(self, setting: Literal["auto", "5", "3.1.1"]) -> None:
        self._auto = setting == "auto"
        self.current: Version = "3.1.1" if setting == "3.1.1" else "5"
        self._worked = False
        self._closes = 0

    def prefer(self, version: Version) -> None:
        """Another connection was greeted in this version by the same broker: the first one is made in it, too."""
        if self._auto and not self._worked:
            self.current = version

    def worked(self) -> None:
        """The broker has answered in this version: stay with it."""
        self._worked = True
        self._closes = 0

    def failed(self, how: Ending) -> bool:
        """Whether the version changed and is worth trying at once: only from 5 to 3.1.1, so nothing spins."""
        if not self._auto:
            return False
        self._closes += {Ending.UNSUPPORTED: _CLOSES_ONCE_WORKED, Ending.SILENT: _CLOSES, Ending.CLOSED: 1}[how]
        if self._closes < (_CLOSES_ONCE_WORKED if self._worked else _CLOSES):
            return False
        self.current = "3.1.1" if self.current == "5" else "5"
        self._worked = False
        self._closes = 0
        return self.current == "3.1.1"
