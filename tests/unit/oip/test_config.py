"""The configuration that Triton's clients read."""

from __future__ import annotations

import pytest

from edged.config.schema import Batch
from edged.config.units import Duration
from edged.errors import EdgedError, fault
from edged.oip import config
from edged.tensors import Signature, TensorSpec
from tests.unit.oip.views import view


def test_a_model_with_a_batch_axis() -> None:
    found = config.model(view(batch=Batch(max=8, wait=Duration(0.002))))
    assert found == {
        "name": "digits",
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [3]}},
        "max_batch_size": 8,
        "input": [{"name": "image", "data_type": "TYPE_FP32", "dims": (1, 8, 8), "optional": False}],
        "output": [{"name": "label", "data_type": "TYPE_STRING", "dims": (1,)}],
        "instance_group": [{"name": "digits", "kind": "KIND_CPU", "count": 1}],
        "default_model_filename": "model.onnx",
        "parameters": {"providers": {"string_value": "CPUExecutionProvider"}},
        "dynamic_batching": {"max_queue_delay_microseconds": 2000},
    }


@pytest.mark.parametrize("shape", [(1, 4), (), (4,)])
def test_a_model_without_one_says_all_its_axes(shape: tuple[int, ...]) -> None:
    """Its inputs and outputs must all have it: what has 0 here is never sent a batch."""
    signature = Signature((TensorSpec("x", "INT64", (-1, 4)),), (TensorSpec("y", "BOOL", shape),))
    found = config.model(view(signature=signature))
    assert found["max_batch_size"] == 0
    assert "dynamic_batching" not in found
    assert found["input"][0]["dims"] == (-1, 4)
    assert found["output"][0]["dims"] == shape


def test_a_device_shows() -> None:
    found = config.model(view(providers=("CUDAExecutionProvider", "CPUExecutionProvider")))
    assert found["instance_group"][0]["kind"] == "KIND_GPU"
    assert found["parameters"] == {"providers": {"string_value": "CUDAExecutionProvider, CPUExecutionProvider"}}


def test_a_fallback_shows() -> None:
    assert config.model(view(fallback="cuda: why"))["parameters"]["fallback"] == {"string_value": "cuda: why"}


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"state": "waiting"}, "starting"),
        ({"state": "waiting", "unloaded": True}, "starting"),
        ({"signature": None}, "starting"),
        ({"state": "failed", "fault": fault("not_a_model", "text")}, "model_failed"),
    ],
)
def test_nothing_is_told_of_what_does_not_serve(members: dict[str, object], code: str) -> None:
    with pytest.raises(EdgedError) as found:
        config.model(view(**members))
    assert found.value.fault.code == code
