"""Which onnxruntime is installed, told without loading it: the daemon never does."""

from __future__ import annotations

from importlib import metadata
from typing import Final

# Its wheels, of which one is installed: for the CPU; for NVIDIA's GPUs, on a Jetson too.
_WHEELS: Final = ("onnxruntime", "onnxruntime-gpu")


def onnxruntime_version() -> str:
    """Its version; "" where nobody can tell, as for a vendor's wheel of another name."""
    for name in _WHEELS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""
