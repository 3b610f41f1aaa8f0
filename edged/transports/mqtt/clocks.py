"""The clock by which messages expire: one that goes on while the machine sleeps."""

from __future__ import annotations

import time


def boot_s() -> float:
    """Seconds since this start of the machine, asleep ones too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
