"""Tensors in shared memory as gRPC's requests and answers tell of them. Pure but for the regions."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edged import protobuf
from edged.errors import EdgedError
from edged.messages import Answer
from edged.oip.regions import Regions, Window
from edged.oip.shared import ABOUT_REGIONS, Bringing, Brought
from edged.protobuf import Buffer, Walk
from edged.transports.rpc.requests import MOST, parameter

# Field numbers of ModelInferRequest, of its inputs and outputs, and of ModelInferResponse; open_inference_grpc.proto.
_INPUTS, _OUTPUTS, _RAW = 5, 6, 7
_NAME, _INPUT_PARAMETERS, _CONTENTS = 1, 4, 5
_OUTPUT_PARAMETERS = 2
_ANSWER_OUTPUTS, _ANSWER_RAW, _ANSWER_PARAMETERS = 5, 6, 4
_KEY, _VALUE, _INT64, _STRING = 1, 2, 2, 3
_REGION, _OFFSET, _SIZE = (name.encode() for name in ABOUT_REGIONS)


class _Tensor(msgspec.Struct):
    """An input or output: where it lies, and the rest of it as it came."""

    name: str = ""
    region: str | None = None
    offset: int = 0
    size: int | None = None
    contents: bool = False
    rest: list[bytes] = []


def uses(payload: bytes) -> bool:
    """Whether a request may have tensors in regions."""
    return payload.find(_REGION) >= 0


def bring(payload: bytes, regions: Regions, limit: int) -> Brought | None:
    """What a ModelInferRequest comes to, with raw bytes for each input in a region; None for one without regions, or
    that cannot be read, which the worker tells.

    Raises EdgedError `bad_input` for what is not there, `input_too_large` above `limit` bytes.
    """
    head: list[bytes] = []
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []
    raw: list[Buffer] = []
    walk = Walk(MOST)
    try:
        for number, value in walk.fields(memoryview(payload)):
            if number == _RAW:
                raw.append(protobuf.message(value))
            elif number == _INPUTS:
                inputs.append(_tensor(walk, protobuf.message(value), _INPUT_PARAMETERS))
            elif number == _OUTPUTS:
                outputs.append(_tensor(walk, protobuf.message(value), _OUTPUT_PARAMETERS))
            elif number < _INPUTS:
                head.append(protobuf.put(number, bytes(protobuf.message(value))))
    except (ValueError, IndexError):
        return None
    if all(one.region is None for one in (*inputs, *outputs)):
        return None
    bringing = Bringing(regions, len(payload), limit)
    try:
        _walk(bringing, inputs, outputs, raw)
    except BaseException:
        bringing.brought(b"").close()
        raise
    head += [protobuf.put(_INPUTS, b"".join(one.rest)) for one in inputs]
    head += [protobuf.put(_OUTPUTS, b"".join(one.rest)) for one in outputs]
    return bringing.brought(b"".join(head))


def _walk(bringing: Bringing, inputs: list[_Tensor], outputs: list[_Tensor], raw: list[Buffer]) -> None:
    """Raw bytes for every input that has no contents, in their order: what lies in a region comes in between."""
    left = iter(raw)
    for one in inputs:
        if one.region is not None:
            window = bringing.input(one.region, one.offset, one.size, besides=one.contents)
            bringing.parts += (protobuf.lead(_RAW, window.size), window)
        elif not one.contents:
            data = next(left, memoryview(b""))
            bringing.parts += (protobuf.lead(_RAW, len(data)), data)
    for data in left:  # of which the worker says that it is too much
        bringing.parts += (protobuf.lead(_RAW, len(data)), data)
    for one in outputs:
        if one.region is not None:
            bringing.output(one.name, one.region, one.offset, one.size)


def _tensor(walk: Walk, message: Buffer, parameters: int) -> _Tensor:
    """`parameters` is their field's number. Raises ValueError and IndexError, EdgedError `bad_input`."""
    found = _Tensor(rest=[])
    for number, value in walk.fields(message):
        if isinstance(value, int):
            found.rest.append(protobuf.put_number(number, value))
            continue
        if number == parameters and _placed(found, walk, value):
            continue
        if number == _NAME:
            found.name = str(value, "utf-8")
        elif number == _CONTENTS:
            found.contents = found.contents or len(value) > 0
        found.rest.append(protobuf.put(number, bytes(value)))
    return found


def _placed(found: _Tensor, walk: Walk, entry: Buffer) -> bool:
    """Whether a parameter says where the tensor lies. Raises as `_tensor`."""
    name, value = parameter(walk, entry)
    if name == _REGION:
        found.region = "" if value is None or isinstance(value, int) else str(value, "utf-8")
    elif name in (_OFFSET, _SIZE):
        if not isinstance(value, int) or value >= 2**63:  # which is how a number below 0 comes
            what = f"the parameter `{name.decode()}` is no whole number from 0 on"
            raise EdgedError("bad_input", what, "It is bytes, as int64_param.")
        if name == _OFFSET:
            found.offset = value
        else:
            found.size = value
    else:
        return False
    return True


def shortened(answer: Answer, places: Mapping[str, Window]) -> Answer:
    """A ModelInferResponse in which the raw bytes of outputs that lie in regions now are empty: clients count them.

    Raises EdgedError where one does not fit, ValueError and IndexError for what is no such response.
    """
    kept: list[bytes] = []
    outputs: list[Buffer] = []
    raw: list[Buffer] = []
    walk = Walk(MOST)
    for number, value in walk.fields(memoryview(answer.payload)):
        message = protobuf.message(value)
        if number == _ANSWER_OUTPUTS:
            outputs.append(message)
        elif number == _ANSWER_RAW:
            raw.append(message)
        else:
            kept.append(protobuf.put(number, bytes(message)))
    behind: list[bytes] = []
    for output, data in zip(outputs, raw, strict=True):
        place = places.get(_tensor(walk, output, _ANSWER_PARAMETERS).name)
        if place is not None:
            place.write(data)
        kept.append(protobuf.put(_ANSWER_OUTPUTS, bytes(output) + (_where(place, len(data)) if place else b"")))
        behind.append(protobuf.put(_ANSWER_RAW, b"" if place else bytes(data)))
    return msgspec.structs.replace(answer, payload=b"".join((*kept, *behind)))


def _where(place: Window, size: int) -> bytes:
    """An output's parameters, as HTTP has them."""
    said = {_REGION: protobuf.put(_STRING, place.name.encode()), _SIZE: protobuf.put_number(_INT64, size)}
    if place.offset:
        said[_OFFSET] = protobuf.put_number(_INT64, place.offset)
    entries = [protobuf.put(_KEY, name) + protobuf.put(_VALUE, value) for name, value in said.items()]
    return b"".join(protobuf.put(_ANSWER_PARAMETERS, entry) for entry in entries)
