"""What the kernel is to think of a worker beside others: its priority, and when it is to be killed (RULES 6, 7)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edged.worker.entry import OOM_SCORE


def restore(pid: int) -> bool:
    """Gives a process that was started as a candidate the daemon's own priority; whether it has that now.

    Each thread has a priority of its own. Raising one takes a right that only root and a limit of the service
    manager's give (LimitNICE= of systemd.exec(5)); a process that has ended needs none.
    """
    wanted = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(OOM_SCORE))
    try:
        threads = [int(one.name) for one in Path(f"/proc/{pid}/task").iterdir()]
        for thread in threads:
            with contextlib.suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, thread, wanted)
        return all(os.getpriority(os.PRIO_PROCESS, thread) <= wanted for thread in threads)
    except (FileNotFoundError, ProcessLookupError):
        return True
