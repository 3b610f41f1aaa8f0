"""What a worker is asked besides running inputs: for one that is made up, and how golden cases come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from edged.channel import MESSAGE_LIMIT, AnswerHead, Compare, Gild
from edged.errors import EdgedError, Fault, fault
from edged.tensors import Compared
from edged.worker.formats.encode import encode_request
from edged.worker.session import Model

if TYPE_CHECKING:
    from edged.worker.golden import Golden

FAULTS_ROOM: Final = MESSAGE_LIMIT // 2  # bytes of a message for the texts of faults; the other half is for the rest


def made_up(model: Model, seed: int, limit: int) -> tuple[AnswerHead, bytes]:
    """An input that fits the model, of `limit` bytes at most, as an Open Inference Protocol request."""
    payload, json_length = encode_request(model.generate(seed))
    if len(payload) <= limit:
        return AnswerHead(len(payload), json_length), payload
    text = f"an input of this model has {len(payload)} bytes, above the limit of {limit}"
    return AnswerHead(0, fault=fault("input_too_large", text)), b""


class Cases:
    """The golden cases of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._golden: Golden | None = None

    def answer(self, asked: Compare | Gild) -> tuple[AnswerHead, bytes]:
        """A tensors.Compared as msgpack, or a fault."""
        try:
            payload = msgspec.msgpack.encode(self._compared(asked))
        except EdgedError as error:
            return AnswerHead(0, fault=shortened(error.fault, FAULTS_ROOM)), b""
        return AnswerHead(len(payload)), payload

    def _compared(self, asked: Compare | Gild) -> Compared:
        """Imports what it takes, which is a megabyte and a half: only a candidate is ever asked (RULES 1)."""
        if isinstance(asked, Gild):
            from edged.worker.gilding import gild

            return gild(self._model, asked)
        from edged.worker.golden import Golden

        self._golden = self._golden or Golden(self._model)
        return self._golden.compare(asked)


def shortened(problem: Fault, room: int) -> Fault:
    """`problem` with at most `room` bytes of message: the heads of a batch have to fit one message."""
    text = problem.message.encode()
    if len(text) <= room:
        return problem
    return Fault(problem.code, text[: room - 3].decode(errors="ignore") + "...", problem.hint)
