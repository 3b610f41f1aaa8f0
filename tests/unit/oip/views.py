"""A model as the router shows it, for the tests of what is told of it."""

from __future__ import annotations

from typing import Any

import msgspec

from edged.config.schema import Batch
from edged.serving.router import ModelView
from edged.tensors import Signature, TensorSpec

DIGITS = ModelView(
    name="digits",
    state="serving",
    version="3",
    sha256="ab" * 32,
    signature=Signature((TensorSpec("image", "FP32", (-1, 1, 8, 8)),), (TensorSpec("label", "BYTES", (-1, 1)),)),
    fault=None,
    queue=0,
    in_flight=0,
    pid=7,
    message_limit=2**20,
    deadline_s=None,
    batch=Batch(max=16),
    providers=("CPUExecutionProvider",),
)


def view(**members: Any) -> ModelView:
    return msgspec.structs.replace(DIGITS, **members)
