"""A box under test: a folder with a configuration and a real daemon in a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"
# A prefix of commands: root without the right to raise a priority, as every other user is.
AS_NOBODY_SPECIAL = ("setpriv", "--bounding-set=-sys_nice") if os.geteuid() == 0 else ()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path, timeout_s: float = 30) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Box:
    """One daemon. `folder` must be short: a UNIX socket's path has at most 107 bytes."""

    def __init__(self, folder: Path, configuration: str) -> None:
        self.folder = folder
        self.config = folder / "edged.yaml"
        self.config.write_text(configuration)
        self.socket = folder / "run" / "edged.sock"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: tuple[str, ...] = ()  # of the command, such as AS_NOBODY_SPECIAL
        self.program: Sequence[str] = (sys.executable, "-m", "edged")
        self.environment = {
            **os.environ,
            "STATE_DIRECTORY": str(folder / "state"),
            "CACHE_DIRECTORY": str(folder / "cache"),
            "RUNTIME_DIRECTORY": str(folder / "run"),
            "PYTHONPATH": str(ROOT),
        }

    def start(self, *, wait: bool = True) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self.program, "run", "--config", str(self.config)],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout_s: float = 30) -> None:
        """Until no model is starting any more."""
        self.wait(lambda: all(m["state"] != "starting" for m in self.status()["models"]), timeout_s)

    def wait(self, condition: Any, timeout_s: float = 30) -> None:
        """Until `condition()` is true; while nobody listens on the socket it counts as false."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.tail()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if condition():
                    return
            time.sleep(0.05)
        raise AssertionError(f"not in {timeout_s} s; the log says:\n{self.tail()}")

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """(status, body, headers with lower-case names) over the UNIX socket."""
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read(), {k.lower(): v for k, v in response.getheaders()}
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        code, body, _ = self.request("GET", "/edged/status")
        assert code == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    def model(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in self.status()["models"] if one["name"] == name)
        return found

    def infer(self, model: str, inputs: list[dict[str, Any]], **extra: Any) -> tuple[int, dict[str, Any]]:
        """An Open Inference Protocol JSON request: (status, body)."""
        body = json.dumps({"inputs": inputs, **extra}).encode()
        code, answer, _ = self.request("POST", f"/v2/models/{model}/infer", body, {"Content-Type": "application/json"})
        return code, json.loads(answer)

    def workers(self) -> list[psutil.Process]:
        """The worker processes: children of the fork server."""
        assert self.process is not None
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                if process.ppid() != self.process.pid:
                    found.append(process)
        return found

    def kill(self) -> None:
        """kill -9 of the daemon."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout_s: float = 20) -> int:
        """A clean stop; returns the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


@contextlib.contextmanager
def box(configuration: str, *, start: bool = True) -> Iterator[Box]:
    """A running box that is stopped, and whose folder is removed, at the end."""
    with tempfile.TemporaryDirectory(prefix="edged-", dir="/tmp") as folder:
        one = Box(Path(folder), configuration)
        try:
            if start:
                one.start()
            yield one
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.stop()
            if one.process is not None and one.process.poll() is None:
                one.kill()
