"""What onnxruntime says, in edged's words: in a process of its own, as the memory that is short is a process's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import models
from tests.box import ROOT

OPEN = """
import resource, sys
from edged.worker.memory import mapped
from edged.worker.session import Model
most = mapped() + 2**20
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
Model.open(sys.argv[1], threads=2)
"""


def test_a_thread_for_which_there_is_no_memory_is_over_memory(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(models.linear())
    command = [sys.executable, "-c", OPEN, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    *_, said = done.stderr.splitlines()
    assert "over_memory: the model asked for more memory than limits.memory allows: pthread_create failed" in said
    assert "/onnxruntime_src" not in said
