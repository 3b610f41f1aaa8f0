"""Which onnxruntime there is, by the wheels that bring it."""

from __future__ import annotations

import sys
from pathlib import Path

import onnxruntime
import pytest

from edged.worker.library import onnxruntime_version


def test_it_is_the_one_that_would_be_loaded() -> None:
    assert onnxruntime_version() == onnxruntime.__version__


def test_a_wheel_for_gpus_counts_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert onnxruntime_version() == ""
    wheel = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    wheel.mkdir()
    (wheel / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    assert onnxruntime_version() == "1.31.1"
