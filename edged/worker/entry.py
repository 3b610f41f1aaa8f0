"""What a new worker process runs first: it ends when the daemon does, then it becomes the worker.

Imports the standard library only: the fork server has the rest loaded already (RULES 1).
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import select
import signal
import socket
from pathlib import Path


def main(channel: socket.socket) -> None:
    """The target of a worker's process; returns when the daemon closes the channel."""
    _end_with_the_daemon()
    # The kernel should take a worker before the daemon or anything else on the box.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    from edged.worker.main import serve

    serve(channel)


def _end_with_the_daemon() -> None:
    """Lets the kernel end this process the moment the daemon is gone, even inside a C loop (RULES 4).

    The sentinel is the read end of a pipe that only the daemon holds open; its end raises SIGIO,
    whose default action is to terminate.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    descriptor = int(parent.sentinel)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([descriptor], [], [], 0)[0]:  # gone before the line above
        os._exit(1)
