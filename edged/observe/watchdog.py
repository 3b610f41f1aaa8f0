"""Feeds systemd's watchdog while everything moves, and keeps its status text true."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from edged.observe.heartbeat import Pulse, stuck
from edged.observe.notify import notify, watchdog_interval_s

_TICK_S: Final = 1.0

log = logging.getLogger("edged")


async def watch(pulse: Callable[[float], Pulse], summary: Callable[[], str]) -> None:
    """Until cancelled. `pulse(now_s)` tells what moves; when this loop ticked last is added here."""
    interval_s = watchdog_interval_s()
    tick_s = _TICK_S if interval_s is None else min(_TICK_S, interval_s / 2)
    said, ticked_s = summary(), time.monotonic()
    while True:
        await asyncio.sleep(tick_s)
        now_s = time.monotonic()
        if interval_s is not None:
            reason = stuck(msgspec.structs.replace(pulse(now_s), ticked_s=ticked_s), now_s, interval_s)
            if reason is None:
                notify(WATCHDOG=1)
            else:
                log.critical("the watchdog is not fed: %s", reason)
        ticked_s = now_s
        if (text := summary()) != said:
            said = text
            notify(STATUS=said)
