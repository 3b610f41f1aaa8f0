"""The form of a model that is loaded in its place, written by a process that ends with it."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

from edged.channel import Open
from edged.errors import EdgedError
from edged.worker.external import external
from edged.worker.memory import limit_memory
from edged.worker.prepared import largest_prepared
from edged.worker.session import write_prepared


def write_form(opening: Open) -> None:
    """At low priority, as nothing waits for it. What it may write is bounded, as a graph can grow when it is optimised.

    Raises EdgedError as session.write_prepared, unsupported for a model with files beside it.
    """
    os.nice(10)
    limit_memory(opening.memory, threads=opening.threads)
    largest = largest_prepared(Path(opening.file).stat().st_size)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if external(opening.file):
        raise EdgedError("unsupported", "a model whose weights lie in other files is loaded as it is")
    write_prepared(opening.file, opening.prepare, threads=opening.threads)
