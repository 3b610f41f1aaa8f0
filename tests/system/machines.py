"""A Debian machine with a real systemd as its first process, in a container: booted, asked, cut off, booted again."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests import disks

HERE: Final = Path(__file__).parent
TOOLS: Final = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "nsenter": "util-linux"}
_BUILD_S: Final = 900.0
_BOOT_S: Final = 120.0
_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def lacking() -> str:
    """Why no machine can be booted here; "" when one can."""
    if os.geteuid() != 0:
        return "it needs root"
    missing = [package for program, package in TOOLS.items() if shutil.which(program) is None]
    if missing:
        return f"not installed: {' '.join(missing)}"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return "no mount namespace can be made here"
    return ""


def image(suite: str) -> Path:
    """The folder with that Debian; made by the first who asks, which takes a minute or two."""
    made = subprocess.run([HERE / "image", suite], check=True, stdout=subprocess.PIPE, text=True, timeout=_BUILD_S)
    return Path(made.stdout.strip())


class Machine:
    """`state` is its disk, a folder or a file with a file system: the same is the same machine at its next boot.
    `network`, a network namespace that exists, takes the place of one of its own."""

    def __init__(self, suite: str, state: Path, network: str = "") -> None:
        self._command: Final[list[str | Path]] = [HERE / "boot", image(suite), state, *([network] if network else [])]
        self.state: Final = state
        self._boot: subprocess.Popen[str] | None = None
        self._pid = 0
        self._disk = Path()

    def boot(self) -> None:
        """Until systemd has started what it starts."""
        if not self.state.is_file():
            self.state.mkdir(parents=True, exist_ok=True)
        self._boot = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._boot.stdout is not None
        if not select.select([self._boot.stdout], [], [], _BOOT_S)[0]:
            raise AssertionError("the machine does not boot")
        match self._boot.stdout.readline().split():
            case ["booted", pid, disk]:
                self._pid, self._disk = int(pid), Path(f"/proc/{self._boot.pid}/root{disk}")
            case _:
                raise AssertionError(Path(f"{self.state}.console").read_text()[-4000:])
        self.run("timeout 60 systemctl is-system-running --wait", check=False)

    def run(
        self, script: str, *, check: bool = True, limit_s: float = 120, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A shell's script as root; with `check` a failure of it is the test's."""
        done = subprocess.run(
            [*self._enter(), "sh", "-ec", script], capture_output=True, text=True, timeout=limit_s, input=stdin
        )
        if check and done.returncode:
            raise AssertionError(
                f"{script!r} ended with {done.returncode}:\n{done.stdout}{done.stderr}\n{self.journal()}"
            )
        return done

    def says(self, script: str, **more: float) -> str:
        """What a script prints, without the last line's end."""
        return self.run(script, **more).stdout.rstrip("\n")  # type: ignore[arg-type]

    def start(self, script: str) -> subprocess.Popen[str]:
        """A script that goes on beside the test; whoever starts it waits for it."""
        return subprocess.Popen(
            [*self._enter(), "sh", "-ec", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait(self, condition: Callable[[], object], limit_s: float = 60) -> None:
        """Until it holds."""
        end_s = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end_s:
                raise AssertionError(f"not in {limit_s:g} s:\n{self.journal()}")
            time.sleep(0.1)

    def put(self, file: Path, place: str) -> None:
        """A file of this side, into the machine."""
        with file.open("rb") as content:
            subprocess.run([*self._enter(), "sh", "-c", f"cat >{place}"], check=True, stdin=content, timeout=120)

    def write(self, place: str, text: str) -> None:
        self.run(f"mkdir -p $(dirname {place}); cat >{place}", stdin=text)

    def journal(self, options: str = "-u edged -n 60") -> str:
        return subprocess.run(
            [*self._enter(), "sh", "-c", f"journalctl --no-pager {options}"], capture_output=True, text=True, timeout=60
        ).stdout

    def cut(self) -> None:
        """Pulls the plug: every process ends at once, and of a disk that is a file all is lost that was not synced."""
        os.kill(self._pid, signal.SIGKILL)
        if self.state.is_file():
            disks.cut(self._disk)
        self._gone()

    def path(self, place: str) -> Path:
        """Where this side sees a file that the machine has written."""
        return self._disk / "upper" / place.lstrip("/")

    def poweroff(self) -> None:
        if self._boot is not None:
            assert self._boot.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._boot.stdin.close()
            self._gone()

    def _gone(self) -> None:
        assert self._boot is not None
        boot, self._boot = self._boot, None
        assert boot.stdin is not None
        assert boot.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            boot.stdin.close()
        boot.stdout.close()
        boot.wait(60)

    def _enter(self) -> list[str]:
        return [
            "nsenter",
            "-t",
            str(self._pid),
            "-m",
            "-u",
            "-i",
            "-n",
            "-p",
            "--",
            "env",
            "-i",
            _PATH,
            "LC_ALL=C.UTF-8",
        ]
