"""The two machines of the demonstration: the box with the daemon, and the operator's, with keys and releases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from players import Failed, Scan

HERE = Path(__file__).resolve().parent
GOLDEN = 16  # scans that a person has looked at
PROBATION_S = 4

CONFIGURATION = """\
device: demo
mqtt:
  url: {broker}
  version: 3.1.1                       # the embedded broker does not speak MQTT 5
models:
  digits:
    file: {model}
    inputs:
      - topic: cells/+cell/scan        # JSON {{"pixels": [64 numbers], "ts": milliseconds}}
        format: values
        field: pixels
        time: ts
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    postprocess: [softmax, {{top_k: 3}}]
    output: {{topic: "cells/{{cell}}/digit"}}
push:
  trust: trust.json                    # whose signatures count
  probation: {{time: {probation}s, runs: 100}}
telemetry: {{interval: 2s}}
"""
FLEET = """\
mqtt:
  url: {broker}
  version: 3.1.1
"""


class Machine:
    """A folder, an environment and a command line of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir()
        self.folder = folder
        self.environment = {**os.environ, **environment}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "edged", *words]

    def edged(self, *words: str, answer: int = 0) -> str:
        """Runs a command in the folder, shows it as one would type it, and what it says: its exit code is expected."""
        print("   $ edged", *(Path(word).name if word.startswith("/") else word for word in words), flush=True)
        done = subprocess.run(
            self.command(*words),
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        said = done.stdout + done.stderr
        print(indented(said))
        if done.returncode != answer:
            raise Failed(f"edged {words[0]} ended with {done.returncode}")
        return said


class Box(Machine):
    """The daemon of this demonstration."""

    def __init__(self, folder: Path, broker: str, trust: bytes) -> None:
        places = {"STATE_DIRECTORY": str(folder / "state"), "RUNTIME_DIRECTORY": str(folder / "run")}
        super().__init__(folder, places)
        self.socket = folder / "run" / "edged.sock"
        self.config = folder / "edged.yaml"
        model = json.dumps(str(HERE / "digits_v1_int8.onnx"))  # quoted as YAML wants it
        self.config.write_text(CONFIGURATION.format(broker=broker, model=model, probation=PROBATION_S))
        (folder / "trust.json").write_bytes(trust)


class Operator(Machine):
    """Who makes, signs and pushes releases."""

    def __init__(self, folder: Path, broker: str) -> None:
        super().__init__(folder, {"EDGED_FLEET": str(folder / "fleet.yaml")})
        (folder / "fleet.yaml").write_text(FLEET.format(broker=broker))

    def golden(self, scans: list[Scan]) -> Path:
        """The scans as golden inputs: float32 [16, 1, 8, 8] by the name of the model's input."""
        images = np.array([scan.pixels for scan in scans[:GOLDEN]], dtype=np.float32) / 16
        file = self.folder / "golden.npz"
        np.savez(file, image=images.reshape(-1, 1, 8, 8))
        return file

    def release(self, version: int, golden: Path, *more: str) -> str:
        """Makes and signs the release of a version; the name of its folder."""
        model = str(HERE / f"digits_v{version}_int8.onnx")
        self.edged("release", model, "--model", "digits", "--version", str(version), "--golden", str(golden), *more)
        return f"digits-{version}"

    def push(self, release: str, *, answer: int = 0) -> None:
        self.edged("push", release, "--to", "device:demo", "--wait", "60s", answer=answer)


def indented(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.strip().splitlines()) + "\n"
