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


HIDDEN = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, void, Status> "
    "onnxruntime::CudaCall(ERRTYPE) [with ERRTYPE = cudaError] CUDA failure 100: no CUDA-capable device is "
    "detected ; GPU=-1 ; hostname=vm ; file=/onnxruntime_src/cuda_execution_provider.cc ; line=400"
)


def test_of_a_failed_call_its_own_words_are_told() -> None:
    assert cuda.said(HIDDEN) == "CUDA failure 100: no CUDA-capable device is detected"
    assert cuda.said("CUDNN failure 5003: CUDNN_STATUS_EXECUTION_FAILED_CUDART ; GPU=0") == (
        "CUDNN failure 5003: CUDNN_STATUS_EXECUTION_FAILED_CUDART"
    )
    assert cuda.said("Load model failed: no such file") == ""


def test_what_ends_the_process() -> None:
    """What CUDA calls sticky; not a lack of memory, nor what another library says."""
    assert cuda.is_lost("CUDA failure 700: an illegal memory access was encountered ; GPU=0")
    assert not cuda.is_lost("CUDA failure 2: out of memory ; GPU=0")
    assert not cuda.is_lost("CUDNN failure 5003: CUDNN_STATUS_EXECUTION_FAILED_CUDART ; GPU=0")
    assert not cuda.is_lost("indices element out of data bounds")


def test_a_full_gpu_is_nothing_to_install() -> None:
    assert "nvidia-smi" in cuda.hint("CUDA failure 2: out of memory")
    assert "onnxruntime-gpu" in cuda.hint("libcublasLt.so.13: cannot open shared object file")
