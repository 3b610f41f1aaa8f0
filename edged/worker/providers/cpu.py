"""onnxruntime's CPU execution provider: always there, and what it needs to give the same answers on every CPU."""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Final

NAME: Final = "CPUExecutionProvider"
_ADDS_IN_32_BITS: Final = frozenset({"avx512_vnni", "avx_vnni"})


def options(_memory: int) -> dict[str, str]:
    """A session's options: none. Its memory is the process's, which is limited as a whole."""
    return {}


@functools.cache
def session_entries() -> dict[str, str]:
    """What a session on this CPU is configured with, in onnxruntime's words (docs/adr/0007)."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return {}
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:  # hidden by a sandbox: then the slower way, which is right everywhere
        cpuinfo = ""
    return {"session.x64quantprecision": "1"} if saturates(cpuinfo) else {}


def saturates(cpuinfo: str) -> bool:
    """Whether an x86-64 CPU adds pairs of uint8 x int8 products in 16 bits, where 255 x 127 twice is cut off.

    `cpuinfo` is the text of /proc/cpuinfo; a core without the VNNI instructions is enough.
    """
    flags = [line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith("flags")]
    return not flags or any(_ADDS_IN_32_BITS.isdisjoint(core) for core in flags)
