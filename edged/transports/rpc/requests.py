"""What the daemon reads of an infer request: whose it is. The tensors are the worker's to decode. Pure."""

from __future__ import annotations

import msgspec

from edged import protobuf
from edged.errors import EdgedError
from edged.protobuf import Buffer

# Field numbers of ModelInferRequest; open_inference_grpc.proto.
_MODEL, _VERSION, _ID, _PARAMETERS = 1, 2, 3, 4
_KEY, _VALUE = 1, 2


class Asked(msgspec.Struct):
    """`timeout` and `priority` as they came, None where they did not."""

    model: str = ""
    version: str = ""
    id: bytes = b""
    timeout: object = None
    priority: object = None


def infer(payload: bytes) -> Asked:
    """Raises EdgedError `bad_input` for what is no such request."""
    asked = Asked()
    try:
        for number, value in protobuf.fields(memoryview(payload)):
            if number == _MODEL:
                asked.model = str(protobuf.message(value), "utf-8")
            elif number == _VERSION:
                asked.version = str(protobuf.message(value), "utf-8")
            elif number == _ID:
                asked.id = bytes(protobuf.message(value))
            elif number == _PARAMETERS:
                _heed(asked, protobuf.message(value))
    except (ValueError, IndexError) as error:
        raise EdgedError("bad_input", f"the request is no ModelInferRequest: {error}") from error
    return asked


def _heed(asked: Asked, entry: Buffer) -> None:
    """Of a parameter only the number, in any of its kinds, and only where the queue is to heed it."""
    name, given = b"", None
    for number, value in protobuf.fields(entry):
        if number == _KEY:
            name = bytes(protobuf.message(value))
        elif number == _VALUE:
            given = next((one for _, one in protobuf.fields(protobuf.message(value))), None)
    if name == b"timeout":
        asked.timeout = given
    elif name == b"priority":
        asked.priority = given
