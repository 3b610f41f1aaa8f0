"""sd_notify: tells systemd how the service is doing; nothing happens where systemd did not start us."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


def notify(environment: Mapping[str, str] = os.environ, **fields: str | int) -> bool:
    """Sends sd_notify(3) fields: `notify(READY=1, STATUS="2 models")`. Whether it was sent.

    READY=1, RELOADING=1 with MONOTONIC_USEC, STOPPING=1, STATUS=text, WATCHDOG=1, MAINPID=pid,
    EXTEND_TIMEOUT_USEC=n. A line break in a value becomes a space: it would begin another field.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    message = "\n".join(f"{name}={' '.join(str(value).splitlines())}" for name, value in fields.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
        try:
            # An address with @ is in the abstract namespace, whose names begin with NUL (unix(7)).
            sock.sendto(message.encode(), f"\0{address[1:]}" if address[0] == "@" else address)
        except OSError:
            return False  # the watchdog decides what a missing word means
    return True


def watchdog_interval_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """How often to feed the watchdog: half of WATCHDOG_USEC (sd_watchdog_enabled(3)); None without one."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or pid not in {"", str(os.getpid())}:
        return None
    return int(usec) / 2e6
