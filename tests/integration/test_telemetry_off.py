"""onnxruntime's Linux wheels send telemetry by default; edged's processes must not: no thread for it, no file of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN_A_MODEL = """
import sys
from pathlib import Path
import edged.worker.preload
from edged.worker.session import Model
model = Model.open(sys.argv[1])
model.run(model.generate(0))
print(len(list(Path("/proc/self/task").iterdir())))
"""


def test_a_process_that_runs_a_model_has_one_thread_and_writes_no_telemetry(tmp_path: Path, digits: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # Even an environment that asks for telemetry does not get it.
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home), "ORT_DISABLE_TELEMETRY": "0"}
    done = subprocess.run(
        [sys.executable, "-c", RUN_A_MODEL, str(digits / "digits_v1_int8.onnx")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["1"]
    assert done.stderr == ""
    assert [path.name for path in home.rglob("*")] == []
