"""Which cores this process runs on."""

from __future__ import annotations

import os
from collections.abc import Sequence

from edged.errors import EdgedError


def pin(cpus: Sequence[int]) -> None:
    """Keeps this process, and the threads that it starts from now on, to these cores; () leaves them all.

    Raises EdgedError bad_config for one that does not exist or that edged may not use: the kernel itself
    refuses only when none of them does.
    """
    if not cpus:
        return
    allowed = os.sched_getaffinity(0)
    missing = sorted(set(cpus) - allowed)
    if missing:
        raise EdgedError(
            "bad_config",
            f"cpus: there is no core {_listed(missing)} here for edged, only {_listed(sorted(allowed))}",
            "`nproc --all` counts the cores; `taskset -p PID` shows those that a process may use.",
            where="cpus",
        )
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise EdgedError(
            "bad_config",
            f"cpus: the kernel does not let edged choose its cores: {error.strerror}",
            "Under systemd, SystemCallFilter= must allow sched_setaffinity.",
            where="cpus",
        ) from error


def _listed(cpus: Sequence[int]) -> str:
    return ", ".join(map(str, cpus))
