"""What the daemon reads of an infer request: whose it is. The tensors are the worker's to decode. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from edged import protobuf
from edged.errors import EdgedError
from edged.protobuf import Buffer, Walk

# Field numbers of ModelInferRequest; open_inference_grpc.proto.
_MODEL, _VERSION, _ID, _PARAMETERS = 1, 2, 3, 4
_KEY, _VALUE = 1, 2
MOST: Final = 8192  # fields that the loop walks through for one request, some 10 ms; a tensor in a region has 15


class Asked(msgspec.Struct):
    """`timeout` and `priority` as they came, None where they did not."""

    model: str = ""
    version: str = ""
    id: bytes = b""
    timeout: object = None
    priority: object = None


def infer(payload: bytes) -> Asked:
    """Raises EdgedError `bad_input` for what is no such request."""
    asked, walk = Asked(), Walk(MOST)
    try:
        for number, value in walk.fields(memoryview(payload)):
            if number == _MODEL:
                asked.model = str(protobuf.message(value), "utf-8")
            elif number == _VERSION:
                asked.version = str(protobuf.message(value), "utf-8")
            elif number == _ID:
                asked.id = bytes(protobuf.message(value))
            elif number == _PARAMETERS:
                name, given = parameter(walk, protobuf.message(value))
                if name == b"timeout":
                    asked.timeout = given
                elif name == b"priority":
                    asked.priority = given
    except (ValueError, IndexError) as error:
        raise EdgedError("bad_input", f"the request is no ModelInferRequest: {error}") from error
    return asked


def parameter(walk: Walk, entry: Buffer) -> tuple[bytes, int | Buffer | None]:
    """The name of a request's or a tensor's parameter, and its value, in any of its kinds. Raises as `walk`."""
    name, given = b"", None
    for number, value in walk.fields(entry):
        if number == _KEY:
            name = bytes(protobuf.message(value))
        elif number == _VALUE:
            given = next((one for _, one in walk.fields(protobuf.message(value))), None)
    return name, given
