"""Keys that this version lacks, some of which edged is going to have: told apart from misspelt ones."""

from __future__ import annotations

from typing import Final

from edged.config import schema

_MODEL_LATER: Final = frozenset({"window", "state", "pipeline", "alarms", "capture", "drift"})

_PROVIDERS: Final = "did you mean providers: [cuda, cpu]?"
# Words that people try, and what to know instead.
INSTEAD: Final[dict[type, dict[str, str]]] = {
    schema.Model: dict.fromkeys(("accelerator", "cuda", "device", "gpu", "gpus", "provider", "tensorrt"), _PROVIDERS)
}
KEYS: Final[dict[type, frozenset[str]]] = {
    schema.Config: frozenset({"version"}),
    schema.Mqtt: frozenset({"home_assistant"}),
    schema.Model: _MODEL_LATER,
    schema.Input: frozenset({"window"}),
}
