"""onnxruntime's CUDA execution provider: NVIDIA's GPUs, in a PC and on a Jetson (docs/adr/0025)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

NAME: Final = "CUDAExecutionProvider"
_HINT: Final = (
    "docs/install.md, GPUs: onnxruntime-gpu in the place of onnxruntime, the CUDA and cuDNN that it was built for, and "
    "NVIDIA's driver. `providers: [cuda, cpu]` falls back to the CPU."
)
_FULL: Final = (
    "The GPU's memory is taken: `nvidia-smi` says by whom. It is tried again when the model is started again."
)
_LIBRARY: Final = "libonnxruntime_providers_cuda.so"
# `CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; hostname=..`, behind a screen of C++.
_FAILURE: Final = re.compile(r"(?:CUDA|CUDNN|CUBLAS|CUFFT) failure (\d+): [^;]*[^;\s]")
_LOST: Final = 200  # cudaError_t from here on: launches that failed, addresses that are none, a device that fell off


def options(memory: int) -> dict[str, str]:
    """A session's options: `memory` is what it may take of the GPU's, bytes, 0 for no limit.

    An arena that grows by what is asked for, not by doubling, as `memory` is a limit. Float32 stays float32: TF32
    would leave 10 bits of its 23. Convolutions are chosen by rule, not by racing them at the first run of each shape,
    so that two processes of one model answer alike, and the first run is no slower than it has to be.
    """
    found = {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
    return found | ({"gpu_mem_limit": str(memory)} if memory else {})


def hint(why: str) -> str:
    """What to do about it where no model runs on the GPU, and `why` was said."""
    return _FULL if "out of memory" in why else _HINT


def unloadable(libraries: Path) -> str:
    """Why the provider's library cannot be loaded, in the linker's words; "" when it can. `libraries`: its folder.

    Only after onnxruntime has tried: while it is loaded the library asks for onnxruntime's functions, once and for all.
    """
    import ctypes  # not for the daemon, which reads the table beside this

    try:
        ctypes.CDLL(str(libraries / _LIBRARY))
    except OSError as error:
        return str(error)
    return ""


def said(text: str) -> str:
    """The failed call in an error of onnxruntime's, as CUDA words it; "" for another error."""
    found = _FAILURE.search(text)
    return found[0] if found else ""


def is_lost(text: str) -> bool:
    """Whether an error leaves the process without its GPU: CUDA then answers every further call with the same one."""
    found = _FAILURE.search(text)
    return found is not None and found[0].startswith("CUDA ") and int(found[1]) >= _LOST
