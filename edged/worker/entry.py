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

# What the kernel kills first when memory runs out: a candidate, then a worker, then the daemon (proc(5)).
OOM_SCORE = 500
OOM_SCORE_OF_CANDIDATES = 900
CANDIDATES_ARE_NICER_BY = 10


def main(channel: socket.socket, candidate: bool = False) -> None:  # noqa: FBT001,FBT002 - by multiprocessing
    """The target of a worker's process; returns when the daemon closes the channel.

    Each has a session to itself. Where the kernel shares the CPU among sessions first (autogroups, sched(7)), workers
    of one session wait for each other: beside a model that is always busy, a tiny one's process waited for a CPU for
    3.5 ms a request when they shared one, and waits for 1.3 (medians of six, on two busy cores).

    A `candidate` answers nobody yet, and loads behind everything else on the box (RULES 6, 7). Being nice counts
    within its session alone, so that is nice as a whole.
    """
    _end_with_the_daemon()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_OF_CANDIDATES if candidate else OOM_SCORE))
    with contextlib.suppress(OSError):
        os.setsid()
    if candidate:
        with contextlib.suppress(OSError):
            os.nice(CANDIDATES_ARE_NICER_BY)
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(CANDIDATES_ARE_NICER_BY))
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
