"""Which execution providers edged knows: a configuration's word -> onnxruntime's name and options.

A new provider is one file beside this one and one line below.
"""

from __future__ import annotations

from typing import Final

from edged.worker.providers import cpu

PROVIDERS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "cpu": (cpu.NAME, cpu.OPTIONS),
}
