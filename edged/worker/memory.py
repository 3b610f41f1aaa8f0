"""A worker's memory: how much it may take, and what it shares with the daemon."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

from edged.rings import Ring

_STACK_UNLIMITED: Final = 2 * 2**20  # glibc's, of a thread where RLIMIT_STACK is unlimited
# What a thread maps besides its stack: 132 KiB for an arena of malloc's, and up to 41 of onnxruntime's own (1.31.1).
_BESIDE_STACK: Final = 256 * 2**10


def attach(inputs: int, results: int) -> tuple[Ring, Ring]:
    """Maps the two rings that came with the first message, and gives their descriptors back."""
    try:
        return Ring.attach(inputs, writer=False), Ring.attach(results, writer=True)
    finally:
        os.close(inputs)
        os.close(results)


def limit_memory(limit: int, *, threads: int = 1) -> None:
    """RLIMIT_DATA: what this process has mapped for data now, plus the limit, plus its `threads`' stacks (RULES 7).

    The kernel counts a stack as a whole, however little of it is touched: 63 of 8 MiB are 504 MiB of the limit and
    3.5 MiB of memory. Where one of onnxruntime's threads cannot be made it waits for ever for the others to end.
    """
    most = mapped() + limit + (threads - 1) * _of_a_thread()
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _of_a_thread() -> int:
    """Bytes that a thread maps: its stack has the size of RLIMIT_STACK (pthread_create(3))."""
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    return (_STACK_UNLIMITED if stack == resource.RLIM_INFINITY else stack) + _BESIDE_STACK


def mapped() -> int:
    """Bytes that this process has mapped for data."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
