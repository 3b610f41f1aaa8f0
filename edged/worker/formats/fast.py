"""The fast lane's bodies: tensors as they are, described once and then recognised (docs/fast.md).

A client sends the same description again and again, with other values behind it. What it means is worked out once,
checks included, and looked up from then on: decoding is one look-up and one view of the bytes for each tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from edged import frames
from edged.frames import Malformed, Tensor
from edged.tensors import Signature
from edged.worker.formats import elements
from edged.worker.formats.decoded import Array, Decoded, bad_input
from edged.worker.formats.oip import check_asked, check_fits, check_whole, given_twice, spec_of

_KEPT: Final = 256  # descriptions that are remembered, each way
_LONGEST: Final = 4096  # bytes of one that is worth remembering
_PLAIN: Final = frozenset(elements.DTYPES) - {"BOOL", "BYTES"}  # any bytes are values of these
_HINT: Final = "docs/fast.md has the frames, byte by byte."
_ITEM: Final = msgspec.json.Encoder()


class _Plan(NamedTuple):
    """What a description comes to. `views` (name, dtype, shape, start) when all tensors are views of the bytes."""

    size: int
    tensors: tuple[Tensor, ...]
    views: tuple[tuple[str, np.dtype[Any], tuple[int, ...], int], ...] | None
    requested: tuple[str, ...] | None
    steps: bool
    stepped: str


class Fast:
    """Decodes requests for one model, and encodes its results."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._plans: dict[bytes, _Plan] = {}
        self._laid_out: dict[tuple[str, str, tuple[int, ...]], bytes] = {}

    def decode(self, body: memoryview) -> Decoded:
        """A request's tensors, checked against the signature; views of `body` where they are aligned in memory.

        With the flag STEPS the tensor that preprocess works on may have another shape and datatype than the
        model's input. Raises EdgedError bad_input.
        """
        try:
            description = frames.described(body)
        except Malformed as error:
            raise bad_input(f"the request: {error}", _HINT) from error
        plan = self._plans.get(description) or self._planned(description)
        if len(body) != plan.size:
            raise bad_input(f"the request's tensors take a body of {plan.size} bytes, it has {len(body)}", _HINT)
        tensors: dict[str, Array] = {}
        if plan.views is not None:
            for name, dtype, shape, start in plan.views:
                array: Array = np.ndarray(shape, dtype, body, start)
                tensors[name] = array if array.flags.aligned else array.copy()
        else:
            for name, datatype, shape, size, start in plan.tensors:
                tensors[name] = elements.from_bytes(body[start : start + size], name, datatype, shape)
        return Decoded(tensors, plain=False, stepped=plan.stepped, requested=plan.requested, steps=plan.steps)

    def _planned(self, description: bytes) -> _Plan:
        try:
            said = frames.read_body(description)
        except Malformed as error:
            raise bad_input(f"the request: {error}", _HINT) from error
        signature, steps = self._signature, bool(said.flags & frames.STEPS)
        stepped = signature.inputs[0].name if steps and len(signature.inputs) == 1 else ""
        names: set[str] = set()
        views = []
        for tensor in said.tensors:
            if tensor.name in names:
                raise given_twice(tensor.name)
            names.add(tensor.name)
            check_fits(tensor.datatype, tensor.shape, spec_of(tensor.name, signature), stepped)
            if tensor.datatype in _PLAIN:
                _check_size(tensor)
                views.append((tensor.name, elements.DTYPES[tensor.datatype], tensor.shape, tensor.start))
        check_whole(names, signature)
        check_asked(said.asked, signature)
        plan = _Plan(
            said.size,
            said.tensors,
            tuple(views) if len(views) == len(said.tensors) else None,
            said.asked or None,
            steps,
            stepped,
        )
        if len(description) <= _LONGEST:
            _room(self._plans)[description] = plan
        return plan

    def encode(
        self, outputs: Sequence[tuple[str, str, Array, bool]], found: Mapping[str, list[Any]] | None = None
    ) -> tuple[bytes, bool]:
        """A result's body, and whether a value is NaN or infinite. Outputs as in encode.encode.

        `found`, a prediction or detections, comes before them, each as BYTES [items], an item as JSON.
        """
        if len(outputs) == 1 and not found:  # nearly always
            name, datatype, array, _ = outputs[0]
            if datatype in _PLAIN:
                key = (name, datatype, array.shape)
                begin = self._laid_out.get(key) or self._lay_out(key, array.nbytes)
                array = array if array.flags.c_contiguous else np.ascontiguousarray(array)
                return b"".join((begin, array.data)) if array.size else begin, elements.has_nonfinite(array)
        described: list[tuple[str, str, Sequence[int], int]] = []
        data: list[bytes] = []
        nonfinite = False
        for name, items in (found or {}).items():
            data.append(elements.to_bytes(_as_items(items), "BYTES"))
            described.append((name, "BYTES", (len(items),), len(data[-1])))
        for name, datatype, array, _ in outputs:
            data.append(elements.to_bytes(array, datatype))
            described.append((name, datatype, array.shape, len(data[-1])))
            nonfinite = nonfinite or elements.has_nonfinite(array)
        begin, gaps = frames.describe(described)
        parts = [begin]
        for one, gap in zip(data, gaps, strict=True):
            parts += (one, bytes(gap))
        return b"".join(parts), nonfinite

    def _lay_out(self, key: tuple[str, str, tuple[int, ...]], size: int) -> bytes:
        begin, _ = frames.describe([(*key, size)])
        _room(self._laid_out)[key] = begin
        return begin


def _room(kept: dict[Any, Any]) -> dict[Any, Any]:
    """What is remembered, with room for one more: whoever sends ever new shapes has the others worked out again."""
    if len(kept) >= _KEPT:
        kept.clear()
    return kept


def _check_size(tensor: Tensor) -> None:
    name, datatype, shape, size, _ = tensor
    expected = elements.count(name, shape) * elements.DTYPES[datatype].itemsize
    if size != expected:
        raise bad_input(f"input {name}: {datatype}{list(shape)} takes {expected} bytes, the request says {size}")


def _as_items(items: list[Any]) -> Array:
    array = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        array[index] = _ITEM.encode(item).decode()
    return array
