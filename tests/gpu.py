"""Whether CUDA works here, for tests that need a GPU."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

from edged.worker.providers import cuda
from edged.worker.session import installed
from tests import models

CUDA = ("CUDAExecutionProvider", "CPUExecutionProvider")
# In a process of its own: what opens the device keeps it.
_LOOK = "import sys; from edged.worker.session import Model; Model.open(sys.argv[1], providers=('cuda',))"


@functools.cache
def missing() -> str:
    """Why there is none, in edged's words; "" where there is."""
    version, built = installed()
    if cuda.NAME not in built:
        return f"onnxruntime {version} is built without CUDA"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.onnx"
        file.write_bytes(models.identity())
        command = [sys.executable, "-c", _LOOK, str(file)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["CUDA does not work here"])[-1]
