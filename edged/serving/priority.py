"""What the kernel is to think of a worker beside others: its priority, and when it is to be killed (RULES 6, 7)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edged.worker.entry import OOM_SCORE


def restore(pid: int) -> bool:
    """Gives a process that was started as a candidate the daemon's own priority; whether it has that now.

    Each thread has a priority of its own. Raising one takes a right that only root and a limit of the service
    manager's give (LimitNICE= of systemd.exec(5)); that of its session (worker/entry.py) takes none, but is to be had
    ten times a second only. A process that has ended needs neither.
    """
    wanted = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(OOM_SCORE))
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("0")  # as every new session
    try:
        threads = [int(one.name) for one in Path(f"/proc/{pid}/task").iterdir()]
        for thread in threads:
            with contextlib.suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, thread, wanted)
        if any(os.getpriority(os.PRIO_PROCESS, thread) > wanted for thread in threads):
            return False
        return _of_session(pid) <= 0
    except (FileNotFoundError, ProcessLookupError):
        return True


def _of_session(pid: int) -> int:
    """How nice the session of a process is as a whole; 0 where the kernel does not group by sessions."""
    try:
        said = Path(f"/proc/{pid}/autogroup").read_text()  # "/autogroup-17 nice 10"
    except OSError:
        return 0
    nice = said.rpartition(" ")[2].strip()
    return int(nice) if nice.lstrip("-").isdecimal() else 0
