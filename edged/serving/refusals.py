"""What senders are told while a model cannot take their inputs."""

from __future__ import annotations

from typing import Final

from edged.errors import Fault, fault

NOTHING_YET: Final = fault("starting", "the model waits for its first push")
UNLOADED: Final = fault(
    "starting", "the model is unloaded", "`POST /v2/repository/models/<model>/load` loads it again."
)


def failed(problem: Fault) -> Fault:
    """Of a model that is failed, with what it failed of."""
    return fault("model_failed", f"the model failed: {problem.message}", problem.hint)
