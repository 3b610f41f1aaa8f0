"""edged's own service on this box: whether systemd has it run, its environment, what its user may read."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from edged.config import load
from edged.config.places import places

UNIT: Final = "edged.service"
SYSTEM: Final = places({}, 0).config
_ASKED_S: Final = 30.0
_SHOWN: Final = ("LoadState", "ActiveState", "Result", "MainPID", "NRestarts", "User")


class Service(msgspec.Struct, frozen=True):
    """As systemd shows it: `state` is active, activating, failed ..; `process` 0 while there is none.

    `restarts`: how often systemd has started it again since somebody else did.
    """

    state: str
    result: str
    process: int
    restarts: int
    user: str


def configuration(named: str | None) -> Path:
    """What whoever looks at a box means: the file named, else this user's own, else the one of the service."""
    own = load.find(named)
    return SYSTEM if not named and not own.exists() and SYSTEM.exists() else own


def of(configuration: Path) -> Service | None:
    """The service, where that is the configuration which it reads; None where there is no such service."""
    systemctl = shutil.which("systemctl")
    if configuration != SYSTEM or systemctl is None:
        return None
    command = [systemctl, "show", UNIT, f"--property={','.join(_SHOWN)}"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_ASKED_S)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return shown(done.stdout)


def shown(text: str) -> Service | None:
    """What `systemctl show` says; None for a unit that systemd does not know."""
    found = {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}
    if found.get("LoadState") != "loaded":
        return None
    state, result, process, restarts, user = (found.get(name, "") for name in _SHOWN[1:])
    return Service(state, result, int(process or 0), int(restarts or 0), user)


def environment(service: Service | None, own: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """What `${NAME}` and credentials are in the service, for root while it runs; else what they are here."""
    if service is None or not service.process:
        return own
    try:
        content = Path(f"/proc/{service.process}/environ").read_bytes()
    except OSError:  # somebody else's, or gone
        return own
    found = (os.fsdecode(one).partition("=") for one in content.split(b"\0") if one)
    return {**own, **{name: value for name, _, value in found}}


def hidden(service: Service | None, files: Iterable[Path]) -> list[Path]:
    """Those that are there and that the service's user cannot read; only root can tell."""
    test = shutil.which("test")
    if service is None or os.geteuid() != 0 or test is None:
        return []
    try:
        user = pwd.getpwnam(service.user)
    except KeyError:
        return []
    groups = os.getgrouplist(user.pw_name, user.pw_gid)

    def readable(file: Path) -> bool:
        command = [test, "-r", str(file)]
        done = subprocess.run(  # noqa: S603
            command, check=False, user=user.pw_uid, group=user.pw_gid, extra_groups=groups, timeout=_ASKED_S
        )
        return done.returncode == 0

    return [file for file in files if file.exists() and not readable(file)]
