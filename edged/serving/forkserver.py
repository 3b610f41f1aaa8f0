"""The standard library's fork server: what it loads for every worker, its start before everything else, and its end."""

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
    """Ends the fork server, then the resource tracker that came with it, and waits for both.

    They end by themselves when this process has, which is too late for systemd: it kills what it finds then, and the
    journal tells of it. Waits as long as a worker lives or the fork server is stalled: for a thread to be left behind.
    """
    for part in (forkserver._forkserver, resource_tracker._resource_tracker):  # noqa: SLF001 - nothing public ends them
        with contextlib.suppress(OSError):  # it is gone already, or the folder with its socket is
            getattr(part, "_stop", _by_itself)()


def _by_itself() -> None:
    """In a Python where these have no such method they end a moment after this process."""
