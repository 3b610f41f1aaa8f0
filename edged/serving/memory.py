"""What a model's processes may take of the box's memory, beyond the limit that each sets itself (RULES 7)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edged.errors import Fault, fault
from edged.observe.resources import anonymous
from edged.serving.generation import Generation

_LOOK_S: Final = 1.0
_MIB: Final = 2**20
_BESIDE: Final = 64 * _MIB  # of a process besides its model
_FILES: Final = 3  # the file, the weights made of it, and what loading takes for a moment
# What CUDA takes of the box's memory in each process, and no model is to blame for: its context and libraries 230 MiB,
# cuDNN's plans of a model with 53 convolutions 345 more (an H100, CUDA 13, cuDNN 9.19).
_CUDA: Final = 640 * _MIB

log = logging.getLogger("edged.serving")


class Guard:
    """Looks each second at what a process really holds, and ends it above `limit` bytes: the second line.

    The first is RLIMIT_DATA, which is an error in the worker instead of its end. Counts from what the process
    has now, so make it before the model is loaded. On a GPU this is the only one for the box's memory; that of the
    GPU is onnxruntime's to limit.
    """

    def __init__(self, generation: Generation, limit: int, providers: Sequence[str] = ()) -> None:
        self._generation = generation
        self._limit = limit + of_itself(providers)
        self._base = anonymous(generation.pid) or 0
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        if not self._generation.alive:
            return
        held = (anonymous(self._generation.pid) or 0) - self._base
        if held > self._limit:
            problem = fault(
                "over_memory", f"its process took {held / _MIB:.0f} MiB, {self._limit / _MIB:.0f} MiB are allowed"
            )
            release = self._generation.release
            extra = {"model": release.model, "version": release.version, "code": problem.code}
            log.error("the process is ended: %s", problem.message, extra=extra)
            self._generation.kill(problem)
        else:
            self._loop.call_later(_LOOK_S, self._look)


def of_itself(providers: Sequence[str]) -> int:
    """Bytes of the box's memory that a process takes for its provider's sake, however small its model is."""
    return _CUDA if "cuda" in providers else 0


def lacking(file: str, available: int | None, providers: Sequence[str] = ()) -> Fault | None:
    """Why no process of this model file should be started beside those there are: None when there is room.

    `available` is MemAvailable in bytes, None where the box does not tell: then one tries.
    """
    try:
        needed = _FILES * Path(file).stat().st_size + _BESIDE + of_itself(providers)
    except OSError:
        return None  # the worker says what is wrong with it
    if available is None or available >= needed:
        return None
    text = f"a second process of it takes up to {needed // _MIB} MiB of memory, {available // _MIB} MiB are available"
    return fault("no_space", text, "Make room on the box, or set `swap: stop_start` for this model.")
