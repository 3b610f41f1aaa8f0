"""The standard library's fork server: what it loads for every worker, and its start before everything else."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import forkserver
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
