"""An operator at work, for tests: a folder with fleet.yaml, keys and a trust document, and the commands run with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from edged.delivery.envelope import Envelope
from tests.signing import Operator

ROOT: Final = Path(__file__).resolve().parent.parent
PATIENCE_S: Final = 100


class Desk(Operator):
    """The operator of tests/signing.py, with what the commands want to find on a disk."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__()
        self.folder: Final = folder
        self.environment: Final = {**os.environ, "EDGED_FLEET": str(folder / "fleet.yaml")}
        (folder / "keys").mkdir(parents=True)
        (folder / "fleet.yaml").write_text(f"mqtt: {{url: '{url}'}}\n")
        (folder / "keys/deploy.pem").write_bytes(self.deploy.pem())
        (folder / "keys/deploy.pem").chmod(0o600)
        (folder / "keys/deploy.pub.pem").write_bytes(self.deploy.public.pem())
        (folder / "trust.json").write_bytes(self.sign_trust())

    @contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The command, under way; its output on one pipe. It is killed at the end at the latest."""
        with subprocess.Popen(
            [sys.executable, "-m", "edged", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code and all that was printed."""
        with self.start(*arguments) as process:
            said, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, said

    def status(self, *more: str) -> dict[str, Any]:
        """What `edged fleet status --json` says."""
        code, said = self.run("fleet", "status", "--json", *more)
        assert code == 0, said
        found: dict[str, Any] = json.loads(said)
        return found


def signing(operator: Operator) -> Any:
    """A function that signs as the deploy role."""

    def sign(envelope: Envelope) -> Envelope:
        return envelope.with_signature(operator.deploy.keyid, operator.deploy.sign(envelope.signed))

    return sign
