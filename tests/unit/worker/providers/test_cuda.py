"""The CUDA provider as far as it shows without a GPU."""

from __future__ import annotations

from pathlib import Path

from edged.worker.providers import cuda
from edged.worker.providers.table import PROVIDERS, on_device


def test_the_linkers_words_are_the_reason(tmp_path: Path) -> None:
    assert "libonnxruntime_providers_cuda.so" in cuda.unloadable(tmp_path)
    (tmp_path / "libonnxruntime_providers_cuda.so").write_bytes(b"no library")
    assert "invalid ELF header" in cuda.unloadable(tmp_path) or "too short" in cuda.unloadable(tmp_path)


def test_limits_memory_is_the_gpus_too() -> None:
    assert cuda.options(64 * 2**20)["gpu_mem_limit"] == "67108864"
    assert "gpu_mem_limit" not in cuda.options(0)
    assert PROVIDERS["cpu"].options(64) == {}


def test_what_runs_on_a_device() -> None:
    assert on_device(("CUDAExecutionProvider", "CPUExecutionProvider"))
    assert not on_device(("CPUExecutionProvider",))
    assert not on_device(())
