"""The plant around a box: a network that outlives the machine in it, with a broker and an operator's desk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from tests.system.service import ROOT
from tests.waiting import until

URL: Final = "mqtt://127.0.0.1:1883"
_PATIENCE_S: Final = 120
_CONFIGURATION: Final = "user root\nlistener 1883 127.0.0.1\nallow_anonymous true\n"


class Plant:
    """`network` is the namespace for the machine; `edged` runs the operator's command in it, as this tree has it."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self._environment: Final = {**os.environ, "EDGED_FLEET": str(folder / "fleet.yaml")}
        self._broker: subprocess.Popen[bytes] | None = None
        (folder / "fleet.yaml").write_text(f"mqtt: {{url: '{URL}'}}\n")
        (folder / "mosquitto.conf").write_text(f"{_CONFIGURATION}log_dest file {folder}/broker.log\n")

    def __enter__(self) -> Self:
        broker = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        assert broker is not None
        script = f"ip link set lo up && exec {broker} -c {self.folder}/mosquitto.conf"
        self._broker = subprocess.Popen(["unshare", "--net", "sh", "-c", script], start_new_session=True)
        log = self.folder / "broker.log"
        until(lambda: log.exists() and " running" in log.read_text())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._broker is not None:
            self._broker.terminate()
            self._broker.wait(30)

    @property
    def network(self) -> str:
        assert self._broker is not None
        return f"/proc/{self._broker.pid}/ns/net"

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """A command that goes on beside the test; whoever starts it ends it."""
        return subprocess.Popen(
            ["nsenter", f"--net={self.network}", *words],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def begin(self, *words: str | Path) -> subprocess.Popen[str]:
        """The operator's command, under way."""
        return self.start(sys.executable, "-m", "edged", *words)

    def edged(self, *words: str | Path) -> str:
        """The operator's command, and all that it prints; it has to end with 0."""
        with self.begin(*words) as process:
            try:
                said, _ = process.communicate(timeout=_PATIENCE_S)
            finally:
                process.kill()
        assert process.returncode == 0, said
        return said

    def retained(self, topic: str) -> dict[str, Any]:
        """What the broker keeps there, an object; {} where it keeps nothing."""
        with self.start("mosquitto_sub", "-t", topic, "-C", "1", "-W", "5") as process:
            said = process.communicate(timeout=_PATIENCE_S)[0]
        found: dict[str, Any] = msgspec.json.decode(said) if said.startswith("{") else {}
        return found
