"""How many cores there are for the models, and the threads that `threads: auto` makes of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from edged.config.schema import Model

_MOST: Final = 64
_GROUPS: Final = Path("/sys/fs/cgroup")


def threads(settings: Model, *, models: int, cores: int) -> int:
    """Threads of one run. auto: every core of `cpus`, else the cores shared out among the models, at least one.

    Two runs of one thread each get more done than one run of two threads, so no core is given away twice.
    """
    if settings.threads is not None:
        return settings.threads
    return min(max(len(settings.cpus) or cores // models, 1), _MOST)


def cores() -> int:
    """The cores that this process may use: of its affinity, and no more than its control groups' CPU time pays for."""
    own = len(os.sched_getaffinity(0))
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return own
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    return max(1, min(own, int(quota(_GROUPS / path.strip("/"), _GROUPS))))


def quota(group: Path, top: Path) -> float:
    """The fewest cores that `cpu.max` of a control group, or of one above it, allows; at most 64.

    The file has microseconds: `200000 100000` is two cores, `max 100000` no limit (cgroup v2).
    """
    found = float(_MOST)
    while group.is_relative_to(top):
        try:
            allowed, period = (group / "cpu.max").read_text().split()
            found = min(found, int(allowed) / int(period))
        except (OSError, ValueError, ZeroDivisionError):  # no limit, the root group, or another version of cgroups
            pass
        if group == top:
            break
        group = group.parent
    return found
