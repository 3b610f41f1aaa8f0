"""What processes cost: the CPU time and the memory of a process and everything below it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

# clock_getcpuclockid(3) in Python: a process's CPU clock, of all its threads, also those that ended, in nanoseconds.
_SCHEDULED = 2


def cpu_ns(pid: int) -> int:
    """CPU time of one process, user and system."""
    return time.clock_gettime_ns((~pid << 3) | _SCHEDULED)


def tree(pid: int) -> list[int]:
    """The process and all its descendants, as they are now."""
    top = psutil.Process(pid)
    return sorted([pid, *(child.pid for child in top.children(recursive=True))])


def pss_bytes(pid: int) -> int:
    """Proportional set size: its own memory, and its share of what it shares with others."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))


class TreeChangedError(Exception):
    """A process came or went while CPU time was measured: the figure would be wrong."""


@dataclass(frozen=True)
class Meter:
    """The CPU time of trees of processes since `started`."""

    _trees: dict[int, list[int]]
    _before_ns: dict[int, int]

    @classmethod
    def started(cls, *tops: int) -> Meter:
        trees = {top: tree(top) for top in tops}
        return cls(trees, {top: sum(map(cpu_ns, members)) for top, members in trees.items()})

    def read_us(self, top: int) -> float:
        """Microseconds of CPU of the whole tree below `top`. Raises TreeChangedError."""
        try:
            spent_ns = sum(map(cpu_ns, self._trees[top])) - self._before_ns[top]
        except OSError as error:  # a clock without its process
            raise TreeChangedError(f"a process below {top} ended") from error
        if (now := tree(top)) != self._trees[top]:
            raise TreeChangedError(f"processes below {top} were {self._trees[top]} and are {now}")
        return spent_ns / 1000
