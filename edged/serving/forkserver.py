"""The standard library's fork server: what it loads for every worker, its start before everything else, and its end.

Without its companion, the resource tracker: a process of 7 MB that unlinks the named semaphores and segments of
`multiprocessing` which a process left behind. edged has none of either, its rings being memfds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from multiprocessing import forkserver, resource_tracker
from typing import Final

_SAFE: Final = "PYTHONSAFEPATH"
CONTEXT: Final = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["edged.worker.preload"])


def warm() -> None:
    """Starts the fork server unless it lives. It loads numpy and onnxruntime after this has returned.

    The standard library starts it as `python -c`, which looks for every module in the folder that edged was started in
    first: a numpy.py in /tmp would be run by whoever says `edged check` there. It alone is told not to: what else this
    process starts is not ours.
    """
    _track_nothing()
    before = os.environ.get(_SAFE)
    os.environ[_SAFE] = "1"
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ[_SAFE]
        else:
            os.environ[_SAFE] = before


def end() -> None:
    """Ends the fork server and waits for it.

    It ends by itself when this process has, which is too late for systemd: it kills what it finds then, and the
    journal tells of it. Waits as long as a worker lives or the fork server is stalled: for a thread to be left behind.
    """
    with contextlib.suppress(OSError):  # it is gone already, or the folder with its socket is
        getattr(forkserver._forkserver, "_stop", _by_itself)()  # noqa: SLF001 - nothing public ends it
    tracker = resource_tracker._resource_tracker  # noqa: SLF001
    if getattr(tracker, "_pid", None) is None and (nowhere := getattr(tracker, "_fd", None)) is not None:
        tracker._fd = None  # type: ignore[attr-defined]  # noqa: SLF001
        os.close(nowhere)


def _by_itself() -> None:
    """In a Python where it has no such method it ends a moment after this process."""


def _track_nothing() -> None:
    """Gives the standard library a descriptor to nowhere for the tracker's pipe, and it starts none.

    Nothing public does. In a Python that keeps it elsewhere a tracker is started, and ends a moment after this process.
    """
    tracker = resource_tracker._resource_tracker  # noqa: SLF001
    if getattr(tracker, "_fd", None) is None:
        tracker._fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # type: ignore[attr-defined]  # noqa: SLF001
