"""The standard library's fork server: what it loads for every worker, and its start before everything else."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from typing import Final

CONTEXT: Final = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["edged.worker.preload"])


def warm() -> None:
    """Starts the fork server unless it lives. It loads numpy and onnxruntime after this has returned."""
    forkserver.ensure_running()
