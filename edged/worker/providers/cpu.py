"""onnxruntime's CPU execution provider: no options of its own; always there."""

from __future__ import annotations

from typing import Final

NAME: Final = "CPUExecutionProvider"
OPTIONS: Final[dict[str, str]] = {}
