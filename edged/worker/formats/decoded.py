"""What every decoder hands on: tensors, and what the sender asked for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from edged.config.steps import Form
from edged.errors import EdgedError
from edged.tensors import Signature, TensorSpec

if TYPE_CHECKING:
    from edged.worker.pictures import Picture

Array = np.ndarray[Any, Any]
NOTHING: Final[frozenset[str]] = frozenset()
NO_CLASSES: Final[Mapping[str, int]] = MappingProxyType({})


class Decoded(msgspec.Struct, frozen=True, eq=False):
    """One input as tensors.

    `plain`: one tensor that preprocess and `fit` still have to bring to the model (values, raw, npy), or a
    `picture` (image);
    False: the model's own tensors, checked against its signature (oip). `stepped` names the tensor
    preprocess works on, "" for none. `laid_out`: the payload gave a shape of its own (npy, nested lists,
    raw columns). `numbers`: it gave numbers, not a dtype (values), so they may be cast to the model's.
    `requested` None: all outputs; `binary`: the outputs the sender reads as raw tensors; `classes`: those of which
    it wants so many of the best instead. `steps`: an oip
    request that asks for preprocess, and for outputs as postprocess leaves them.
    """

    tensors: dict[str, Array]
    plain: bool
    stepped: str = ""
    laid_out: bool = True
    numbers: bool = False
    id: str = ""
    requested: tuple[str, ...] | None = None
    binary: frozenset[str] = NOTHING
    steps: bool = False
    ts_ms: int | None = None
    picture: Picture | None = None
    classes: Mapping[str, int] = NO_CLASSES


def bad_input(message: str, hint: str | None = None) -> EdgedError:
    """The one error a decoder raises: what was expected, what was found."""
    return EdgedError("bad_input", message, hint)


def target(form: Form, signature: Signature) -> TensorSpec:
    """The model's input that a payload of one tensor feeds: `form.tensor`, or the only one."""
    inputs = signature.inputs
    if len(inputs) == 1 and form.tensor in ("", inputs[0].name):
        return inputs[0]
    names = ", ".join(spec.name for spec in inputs)
    if not form.tensor:
        raise bad_input(
            f"the payload is one tensor, the model has {len(inputs)} inputs: {names}",
            "Send an Open Inference Protocol request, or name the input with `tensor`.",
        )
    for spec in inputs:
        if spec.name == form.tensor:
            return spec
    raise bad_input(f"the model has no input {form.tensor}, only {names}", "Correct `tensor` in its `inputs`.")
