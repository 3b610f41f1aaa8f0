"""What the models have executed, in the shape of Triton's statistics extension."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from edged.observe.executions import Executed, Spent, Statistics
    from edged.oip.backend import Backend
    from edged.serving.router import ModelView

_NEVER: Final = {"count": 0, "ns": 0}  # edged caches no answers


def models(views: Iterable[ModelView], backend: Backend) -> dict[str, Any]:
    """{"model_stats": [..]} of the versions that are loaded; others have none, as in Triton."""
    return {"model_stats": [_model(view, *backend.statistics(view)) for view in views if view.state == "serving"]}


def _model(view: ModelView, counted: Statistics, memory: int | None) -> dict[str, Any]:
    """`memory`: bytes of the model's process, None when it has not been measured yet."""
    return {
        "name": view.name,
        "version": view.version,
        "last_inference": counted.last_ms,
        "inference_count": counted.inferences,
        "execution_count": counted.executions,
        "inference_stats": {
            "success": _spent(counted.success),
            "fail": _spent(counted.fail),
            "queue": _spent(counted.queue),
            "compute_input": _spent(counted.input),
            "compute_infer": _spent(counted.infer),
            "compute_output": _spent(counted.output),
            "cache_hit": _NEVER,
            "cache_miss": _NEVER,
        },
        "batch_stats": [_batch(one) for one in counted.batches],
        "memory_usage": [] if memory is None else [{"type": "CPU", "id": 0, "byte_size": memory}],
    }


def _spent(spent: Spent) -> dict[str, int]:
    return {"count": spent.count, "ns": spent.ns}


def _batch(one: Executed) -> dict[str, Any]:
    return {
        "batch_size": one.size,
        "compute_input": {"count": one.count, "ns": one.input_ns},
        "compute_infer": {"count": one.count, "ns": one.infer_ns},
        "compute_output": {"count": one.count, "ns": one.output_ns},
    }
