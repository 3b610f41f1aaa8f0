"""The clocks that messages are stamped, held and dropped by."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec


def boot_s() -> float:
    """Seconds since this start of the machine, asleep ones too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Clocks(msgspec.Struct, frozen=True):
    """`now_s` is monotonic, `lasting_s` goes on while the machine sleeps: messages expire by it; `wall_ms` is for
    stamps that others see, and `synced` says whether another clock has set it.
    """

    now_s: Callable[[], float] = time.monotonic
    lasting_s: Callable[[], float] = boot_s
    wall_ms: Callable[[], int] = _wall_ms
    synced: Callable[[], bool] = lambda: True


CLOCKS: Final = Clocks()
