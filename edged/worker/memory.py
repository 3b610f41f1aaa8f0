"""A worker's memory: how much it may take, and what it shares with the daemon."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from edged.rings import Ring


def attach(inputs: int, results: int) -> tuple[Ring, Ring]:
    """Maps the two rings that came with the first message, and gives their descriptors back."""
    try:
        return Ring.attach(inputs, writer=False), Ring.attach(results, writer=True)
    finally:
        os.close(inputs)
        os.close(results)


def limit_memory(limit: int) -> None:
    """RLIMIT_DATA: what this process has mapped for data now, plus the limit (RULES 7)."""
    most = mapped() + limit
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def mapped() -> int:
    """Bytes that this process has mapped for data."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
