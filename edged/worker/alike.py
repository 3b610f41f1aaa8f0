"""Inputs that differ in their values alone: what is said of them is read once, and several of them are one array.

A client sends the same JSON, or the same description over the fast lane, with other raw tensors behind it again
and again. What it comes to, checks included, is kept for the next such input: its tensors are views of its bytes
then, those of a batch one copy, and the answers to a batch are written into one array. Nothing is kept of an input
that any of that would not be right for: it goes the way of the first one, through `formats` and `steps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from edged import frames
from edged.channel import AnswerHead, InputHead
from edged.messages import FAST
from edged.worker.formats import oip
from edged.worker.formats.decoded import Array
from edged.worker.formats.elements import DATATYPE_OF, DTYPES, has_nonfinite
from edged.worker.formats.encode import encode
from edged.worker.job import Job
from edged.worker.stack import Feeds

_KEPT: Final = 64  # plans, and of each how its answers begin
_LONGEST: Final = 1024  # bytes of JSON that is kept, so that senders cannot fill more than this times _KEPT
_WORTH_A_VIEW: Final = 16 * 1024  # bytes of an output; below, a copy is 0.8 us cheaper
_NOT_ANY_BYTES: Final = frozenset({"BOOL", "BYTES"})  # of every other datatype any bytes are values


class Tensor(NamedTuple):
    """An input's tensor: `size` bytes from `start` of its payload."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    size: int


class Begin(NamedTuple):
    """An answer's JSON, and its head."""

    text: bytes
    head: AnswerHead


class Plan(msgspec.Struct, eq=False):
    """What an input comes to whose head is `job.head` and whose payload begins with `said`, whatever its values.

    `job` is the first such input's, without tensors. `asked`: the outputs it is answered with, all of them raw tensors;
    None where that is not so. `begins`: how answers begin, by how many share a run and the shapes of its outputs.
    """

    said: bytes
    job: Job
    tensors: tuple[Tensor, ...]
    asked: tuple[str, ...] | None
    begins: dict[tuple[Any, ...], Begin]


Answered = tuple[list[AnswerHead], list[bytes | memoryview]]  # heads, and the joined payloads


class Alike:
    """The plans of one worker. `outputs`: all that the model has; `stacks`: several inputs may share a run."""

    def __init__(self, model: str, version: str, outputs: Sequence[str], *, stacks: bool) -> None:
        self._answers_as = (model, version)
        self._outputs = tuple(outputs)
        self._stacks = stacks
        self._plans: dict[bytes, Plan] = {}
        self._last = b""  # JSON without a plan: that with an id of its own never comes again

    def learn(self, job: Job, payload: memoryview) -> None:
        """Keeps what an input came to, decoded and found right; of JSON when it comes twice running."""
        head, decoded = job.head, job.decoded
        length = _said(head, payload)
        if head.form not in (-1, FAST) or head.copy or head.memory or not 0 < length <= _LONGEST:
            return
        if decoded is None or decoded.steps:
            return
        said = bytes(payload[:length])
        if head.form != FAST and said != self._last:  # a description has no id of its own
            self._last = said
            return
        places = _places(said) if head.form == FAST else oip.places(length, payload)
        if places is None or any(datatype in _NOT_ANY_BYTES for _, datatype, *_ in places):
            return
        names = decoded.requested or self._outputs
        raw = head.form == FAST or (decoded.binary.issuperset(names) and not decoded.classes)
        _room(self._plans)[said] = Plan(
            said,
            Job(head, msgspec.structs.replace(decoded, tensors={}), rows=job.rows),
            tuple(Tensor(name, DTYPES[datatype], shape, start, size) for name, datatype, shape, start, size in places),
            names if raw else None,
            {},
        )

    def find(self, heads: Sequence[InputHead], payload: memoryview) -> tuple[Plan, Feeds] | None:
        """The plan that all inputs of a batch have in common, and their tensors, stacked; None: each is to be read.

        `payload` is that of all, joined.
        """
        head, count = heads[0], len(heads)
        length = _said(head, payload)
        plan = self._plans.get(bytes(payload[:length])) if 0 < length <= _LONGEST else None
        if plan is None or plan.job.head != head:
            return None
        try:
            if count == 1:
                return plan, {one.name: _view(one, payload) for one in plan.tensors}
            if not self._stacks or not plan.job.rows or heads.count(head) != count:
                return None
            inputs = np.frombuffer(payload, np.uint8).reshape(count, head.size)
            if (inputs[1:, : len(plan.said)] != inputs[0, : len(plan.said)]).any():
                return None
            return plan, {one.name: _rows(one, inputs) for one in plan.tensors}
        except MemoryError:
            return None

    def encode(self, plan: Plan, outputs: dict[str, Array], count: int, limit: int) -> Answered | None:
        """The answers to `count` inputs, from the outputs of the run that they shared.

        None where each has to be looked at: JSON is asked for, an output is missing, a value is NaN or infinite, an
        answer is above `limit` bytes, or memory is short.
        """
        try:
            return self._encoded(plan, outputs, count, limit) if plan.asked is not None else None
        except MemoryError:
            return None

    def _encoded(self, plan: Plan, outputs: dict[str, Array], count: int, limit: int) -> Answered | None:
        arrays, shapes = [], []
        for name in plan.asked or ():
            array = outputs.get(name)
            if array is None or array.dtype.hasobject or has_nonfinite(array):
                return None
            arrays.append(array)
            shapes.append(array.shape)
        key = (count, *shapes)
        begin = plan.begins.get(key)
        if begin is None:
            begin = self._begin(plan, arrays, count)
            if begin is None:
                return None
            _room(plan.begins)[key] = begin
        if begin.head.size > limit:
            return None
        if count == 1:
            return [begin.head], [begin.text, *map(_bytes, arrays)]
        return [begin.head] * count, [_interleaved(begin, arrays, count)]

    def _begin(self, plan: Plan, arrays: Sequence[Array], count: int) -> Begin | None:
        """How each of these answers begins; None when the outputs do not have a row for each input row."""
        if count > 1 and any(array.shape[:1] != (count * plan.job.rows,) for array in arrays):
            return None
        first = [array[: plan.job.rows] if count > 1 else array for array in arrays]
        if plan.job.head.form == FAST:
            return _result(plan.asked or (), first)
        outputs = [
            (name, DATATYPE_OF[array.dtype], array, True) for name, array in zip(plan.asked or (), first, strict=True)
        ]
        named = plan.job.decoded.id if plan.job.decoded is not None else ""
        payload, json_length, _ = encode(*self._answers_as, named or plan.job.head.id, outputs)
        return Begin(payload[:json_length], AnswerHead(len(payload), json_length))


def _said(head: InputHead, payload: memoryview) -> int:
    """The bytes of an input that say what its tensors are: its JSON, or the description of the fast lane."""
    return frames.described_size(payload[: head.size]) if head.form == FAST else head.json_length


def _places(said: bytes) -> list[tuple[str, str, tuple[int, ...], int, int]]:
    """As oip.places, of a description that was found right."""
    tensors = frames.read_body(said).tensors
    return [(one.name, one.datatype, one.shape, one.start, one.size) for one in tensors]


def _result(names: Sequence[str], arrays: Sequence[Array]) -> Begin | None:
    """How a result of the fast lane begins; None where there is something between its tensors."""
    outputs = list(zip(names, arrays, strict=True))
    begin, gaps = frames.describe([(name, DATATYPE_OF[one.dtype], one.shape, one.nbytes) for name, one in outputs])
    return None if any(gaps) else Begin(begin, AnswerHead(len(begin) + sum(one.nbytes for one in arrays)))


def _room(kept: dict[Any, Any]) -> dict[Any, Any]:
    """What is kept, with room for one more."""
    if len(kept) >= _KEPT:
        kept.clear()
    return kept


def _view(tensor: Tensor, payload: memoryview) -> Array:
    array: Array = np.ndarray(tensor.shape, tensor.dtype, payload, tensor.start)
    return array if array.flags.aligned else array.copy()


def _rows(tensor: Tensor, inputs: Array) -> Array:
    """The tensor of all inputs, one behind the other: [inputs x rows, ...]."""
    found = np.ascontiguousarray(inputs[:, tensor.start : tensor.start + tensor.size])
    return found.view(tensor.dtype).reshape(len(inputs) * tensor.shape[0], *tensor.shape[1:])


def _bytes(array: Array) -> bytes | memoryview:
    return (
        array.tobytes() if array.nbytes < _WORTH_A_VIEW else np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    )


def _interleaved(begin: Begin, arrays: Sequence[Array], count: int) -> memoryview:
    """For each input how its answer begins, and its part of every array."""
    answers = np.empty((count, begin.head.size), np.uint8)
    at = len(begin.text)
    answers[:, :at] = np.frombuffer(begin.text, np.uint8)
    for array in arrays:
        size = array.nbytes // count
        if size:
            answers[:, at : at + size] = np.ascontiguousarray(array).reshape(count, -1).view(np.uint8)
        at += size
    return answers.reshape(-1).data
