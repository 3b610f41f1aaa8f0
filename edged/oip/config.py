"""A model's configuration in Triton's shape (model_config.proto as JSON), for clients that ask how to send to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from edged.errors import EdgedError
from edged.oip.describe import check_serving
from edged.worker.providers.table import on_device

if TYPE_CHECKING:
    from edged.serving.router import ModelView
    from edged.tensors import TensorSpec

_BACKEND: Final = "onnxruntime"
_PLATFORM: Final = "onnxruntime_onnx"  # Triton's word; the specification's own is in the metadata


def model(view: ModelView) -> dict[str, Any]:
    """The configuration of the version that serves; EdgedError `starting` or `model_failed` while there is none.

    With a free first axis on all inputs and outputs `max_batch_size` is `batch.max` and `dims` are without that axis,
    as Triton has it; else it is 0 and `dims` are all axes. edged takes larger requests than that: `max_batch_size` is
    what it gathers in one run.
    """
    check_serving(view)
    if view.signature is None:
        raise EdgedError("starting", f"{view.name} has not told its inputs and outputs yet")
    tensors = (*view.signature.inputs, *view.signature.outputs)
    batches = all(spec.shape[:1] == (-1,) for spec in tensors)
    found: dict[str, Any] = {
        "name": view.name,
        "platform": _PLATFORM,
        "backend": _BACKEND,
        "version_policy": {"specific": {"versions": [int(view.version)]}},
        "max_batch_size": view.batch.max if batches else 0,
        "input": [_input(spec, batches=batches) for spec in view.signature.inputs],
        "output": [_tensor(spec, batches=batches) for spec in view.signature.outputs],
        "instance_group": [{"name": view.name, "kind": _kind(view), "count": 1}],
        "default_model_filename": "model.onnx",
        "parameters": {name: {"string_value": said} for name, said in _runs_on(view).items()},
    }
    if batches and view.batch.max > 1:
        found["dynamic_batching"] = {"max_queue_delay_microseconds": round(view.batch.wait * 1e6)}
    return found


def _input(spec: TensorSpec, *, batches: bool) -> dict[str, Any]:
    return {**_tensor(spec, batches=batches), "optional": spec.optional}


def _tensor(spec: TensorSpec, *, batches: bool) -> dict[str, Any]:
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": spec.shape[1:] if batches else spec.shape}


def _runs_on(view: ModelView) -> dict[str, str]:
    """onnxruntime's providers in their order, and why the first that was asked for is not among them."""
    said = {"providers": ", ".join(view.providers), "fallback": view.fallback}
    return {name: text for name, text in said.items() if text}


def _kind(view: ModelView) -> str:
    return "KIND_GPU" if on_device(view.providers) else "KIND_CPU"
