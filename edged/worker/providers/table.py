"""Which execution providers edged knows: a configuration's word -> what onnxruntime is told.

A new provider is one file beside this one, one line below, and its word in config/schema.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from edged.worker.providers import cpu, cuda


class Provider(NamedTuple):
    """`name` is onnxruntime's; `options` are of a session that may take so many bytes of the device's memory.

    `unloadable` says why the library that it comes in cannot be loaded from a folder, "" when it can; None: it comes in
    onnxruntime itself. `hint` says what to do where it cannot be used, and why.
    """

    name: str
    options: Callable[[int], dict[str, str]]
    unloadable: Callable[[Path], str] | None = None
    hint: Callable[[str], str] = lambda _why: ""


PROVIDERS: Final[dict[str, Provider]] = {
    "cpu": Provider(cpu.NAME, cpu.options),
    "cuda": Provider(cuda.NAME, cuda.options, cuda.unloadable, cuda.hint),
}


def on_device(names: Sequence[str]) -> bool:
    """Whether a session with these providers, in onnxruntime's names and order, runs on more than the CPU."""
    return bool(names) and names[0] != cpu.NAME
