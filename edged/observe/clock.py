"""Whether the box's wall clock can be trusted: a box without a battery starts in 1970, or where it was switched off."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Final

_ASKED_S: Final = 10.0  # how long an answer counts
RELEASED_S: Final = 1_767_225_600  # 2026-01-01: before edged was written no clock was right
# struct timex of adjtimex(2), 64 bits: `maxerror` in microseconds is the fourth member. From 16 s on, which is where
# the kernel lets it end, nobody has set the clock; systemd's own ntp_synced() asks the same.
_TIMEX: Final = 208
_MAXERROR: Final = slice(24, 32)
_LOST_US: Final = 16_000_000
_TIMESYNCD: Final = Path("/run/systemd/timesync")

_libc: Final = ctypes.CDLL(None)


class WallClock:
    """Remembers the kernel's answer for a while: it is wanted for each result."""

    def __init__(self) -> None:
        self._until_s = 0.0
        self._synced = True

    def synced(self) -> bool:
        """Whether some other clock has set this one, as far as the box tells."""
        now_s = time.monotonic()
        if now_s >= self._until_s:
            self._until_s = now_s + _ASKED_S
            self._synced = time.time() >= RELEASED_S and _kernel_says()
        return self._synced


def _kernel_says() -> bool:
    timex = ctypes.create_string_buffer(_TIMEX)  # modes 0: nothing is set
    if _libc.adjtimex(timex) >= 0:
        return int.from_bytes(timex.raw[_MAXERROR], "little") < _LOST_US
    # systemd's ProtectClock= forbids to ask. Then timesyncd's mark counts; without timesyncd nobody knows.
    return not _TIMESYNCD.is_dir() or (_TIMESYNCD / "synchronized").exists()
