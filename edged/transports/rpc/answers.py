"""Answers to infer requests: what the worker encoded, with what only the daemon knows. Pure."""

from __future__ import annotations

from typing import Final

from edged import protobuf
from edged.errors import Fault
from edged.messages import Answer
from edged.transports.rpc.replies import words

# Field numbers: a response's parameters are a map from a text to an InferParameter.
_RESPONSE_ID, _RESPONSE_PARAMETERS = 3, 4
_KEY, _VALUE, _BOOL = 1, 2, 1
_STREAM_ERROR, _STREAM_RESPONSE = 1, 2


def _flag(name: str) -> bytes:
    """A parameter that is true."""
    value = protobuf.put(_VALUE, protobuf.put_number(_BOOL, 1))
    return protobuf.put(_RESPONSE_PARAMETERS, protobuf.put(_KEY, name.encode()) + value)


_NONFINITE: Final = _flag("nonfinite")
_RETRIED: Final = _flag("retried")


def inferred(answer: Answer) -> bytes:
    """A ModelInferResponse: fields may come in any order, so that what is added may stand behind."""
    if not (answer.nonfinite or answer.retried):
        return answer.payload
    more = (_NONFINITE if answer.nonfinite else b"", _RETRIED if answer.retried else b"")
    return b"".join((answer.payload, *more))


def streamed(response: bytes) -> bytes:
    """A ModelStreamInferResponse around a response."""
    return protobuf.put(_STREAM_RESPONSE, response)


def stream_error(problem: Fault, id: bytes) -> bytes:
    """One with an error, and the id of the request that it is about, where that had one."""
    said = protobuf.put(_STREAM_ERROR, words(problem).encode())
    return said + protobuf.put(_STREAM_RESPONSE, protobuf.put(_RESPONSE_ID, id)) if id else said
