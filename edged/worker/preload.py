"""What the fork server loads once, so that a worker is ready in milliseconds (RULES 1, 5).

Its own session and no SIGINT or SIGTERM: the daemon decides when workers end. Both are inherited by
every worker. Nothing here may create a session or ask a provider for its devices (RULES 9).
"""

from __future__ import annotations

import contextlib
import os
import signal

import edged.worker.main  # noqa: F401 - loading it is the point

with contextlib.suppress(PermissionError):  # it leads a group already
    os.setsid()
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
