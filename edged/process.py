"""The daemon's process: its loop, its signals, its exit code."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from functools import partial
from typing import Final

import uvloop

from edged.config.schema import Config
from edged.daemon import Daemon, has_terminal
from edged.observe import journal

BROKEN: Final = 70  # EX_SOFTWARE of sysexits.h: a fault of edged itself; systemd starts it again


def main(config: Config, read: Callable[[], Config] | None = None) -> int:
    """Runs the daemon until SIGTERM, SIGINT or its terminal is closed. Exit code 0, or 70 after a fault of its own.

    `read` gives the configuration's file anew, for a reload.
    """
    journal.setup()
    return uvloop.run(_run(config, read))


async def _run(config: Config, read: Callable[[], Config] | None) -> int:
    daemon = Daemon(config, read)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(daemon.broken)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.leave.set)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # else nohup wants it to go on
        loop.add_signal_handler(signal.SIGHUP, partial(daemon.hang_up, terminal=has_terminal()))
    starting = asyncio.create_task(daemon.start())
    leaving = asyncio.create_task(daemon.leave.wait())
    try:
        await asyncio.wait((starting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting  # raises what kept it from starting
            await leaving
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await daemon.stop()
    return BROKEN if daemon.fell else 0
