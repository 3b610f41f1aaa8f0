"""Tensors in shared memory as JSON requests and answers tell of them. Pure but for the regions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from edged.errors import EdgedError
from edged.messages import Answer
from edged.oip.regions import Regions, Window
from edged.oip.shared import ABOUT_REGIONS, Bringing, Brought

_WORD: Final = b'"shared_memory_region"'
# A body has up to limits.message, and is read in the loop: so much of it takes some 15 ms, 16 MiB of {} took 10 s.
_LONGEST: Final = 256 * 1024  # bytes of JSON
_MOST: Final = 8192  # objects in it: a tensor in a region is two
_HINT: Final = "Send tensors as raw bytes behind the JSON, or in regions as well."
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class _Parameters(msgspec.Struct, frozen=True):
    shared_memory_region: str | None = None
    shared_memory_offset: _Size = 0
    shared_memory_byte_size: _Size | None = None
    binary_data_size: _Size | None = None


Member = dict[str, msgspec.Raw]


class _Request(msgspec.Struct, frozen=True):
    inputs: list[Member] = []
    outputs: list[Member] = []


_TOP: Final = msgspec.json.Decoder(Member)
_LISTS: Final = msgspec.json.Decoder(_Request)
_PARAMETERS: Final = msgspec.json.Decoder(_Parameters)
_MEMBER: Final = msgspec.json.Decoder(Member)


def uses(payload: bytes, json_length: int) -> bool:
    """Whether a request may have tensors in regions."""
    return json_length != 0 and payload.find(_WORD, 0, json_length if json_length > 0 else len(payload)) >= 0


def bring(payload: bytes, json_length: int, regions: Regions, limit: int) -> Brought | None:
    """What `payload` comes to: its JSON is the head. None for one without regions, or that cannot be read, which the
    worker tells.

    Raises EdgedError `bad_input` for what is not there and for more JSON than the loop has time for, `input_too_large`
    above `limit` bytes.
    """
    end = json_length if json_length > 0 else len(payload)
    if end > _LONGEST or payload.count(b"{", 0, end) > _MOST:
        what = f"the JSON of a request with tensors in shared memory is above {_LONGEST} bytes or {_MOST} objects"
        raise EdgedError("bad_input", what, _HINT)
    try:
        top, said = _TOP.decode(payload[:end]), _LISTS.decode(payload[:end])
        inputs = [(one, _parameters(one)) for one in said.inputs]
        outputs = [(one, _parameters(one)) for one in said.outputs]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not any(parameters.shared_memory_region is not None for _, parameters in (*inputs, *outputs)):
        return None
    bringing, raw = Bringing(regions, len(payload), limit), _Raw(payload, end)
    try:
        given = [_input(bringing, raw, one, parameters) for one, parameters in inputs]
        wanted = [_output(bringing, one, parameters) for one, parameters in outputs]
    except BaseException:
        bringing.brought(b"").close()
        raise
    bringing.parts.append(raw.rest())  # of which the worker says that it is too much
    text = {**top, "inputs": given, **({"outputs": wanted} if wanted else {})}
    return bringing.brought(msgspec.json.encode(text))


class _Raw:
    """The raw tensors behind the JSON, which follow each other in the order of the inputs."""

    def __init__(self, payload: bytes, start: int) -> None:
        self._payload = memoryview(payload)
        self._at = start

    def take(self, size: int) -> memoryview:
        if size > len(self.rest()):
            what = f"an input's binary_data_size is {size}, the body has {len(self.rest())} bytes left"
            raise EdgedError("bad_input", what)
        self._at += size
        return self._payload[self._at - size : self._at]

    def rest(self) -> memoryview:
        return self._payload[self._at :]


def _input(bringing: Bringing, raw: _Raw, tensor: Member, said: _Parameters) -> Member:
    region, size = said.shared_memory_region, said.binary_data_size
    if region is None:
        if size is not None:
            bringing.parts.append(raw.take(size))
        return tensor
    besides = size is not None or "data" in tensor
    window = bringing.input(region, said.shared_memory_offset, said.shared_memory_byte_size, besides=besides)
    bringing.parts.append(window)
    return _with(tensor, binary_data_size=window.size)


def _output(bringing: Bringing, tensor: Member, said: _Parameters) -> Member:
    region = said.shared_memory_region
    if region is None:
        return tensor
    name = msgspec.json.decode(tensor.get("name", b'""'))
    bringing.output(name, region, said.shared_memory_offset, said.shared_memory_byte_size)
    return _with(tensor, binary_data=True)


def shortened(answer: Answer, places: Mapping[str, Window]) -> Answer:
    """An answer without the outputs that lie in regions now. Raises EdgedError where one does not fit."""
    end = answer.json_length or len(answer.payload)
    said: dict[str, Any] = msgspec.json.decode(answer.payload[:end])
    view, at = memoryview(answer.payload), end
    kept: list[memoryview] = []
    for output in said["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            continue
        data = view[at : at + size]
        at += size
        place = places.get(output["name"])
        if place is None:
            kept.append(data)
            continue
        place.write(data)
        where = {"shared_memory_region": place.name, "shared_memory_byte_size": size}
        output["parameters"] = {**where, "shared_memory_offset": place.offset} if place.offset else where
    text = msgspec.json.encode(said)
    return msgspec.structs.replace(answer, payload=b"".join((text, *kept)), json_length=len(text) if kept else 0)


def _parameters(tensor: Member) -> _Parameters:
    raw = tensor.get("parameters")
    return _Parameters() if raw is None else _PARAMETERS.decode(raw)


def _with(tensor: Member, **parameters: object) -> Member:
    """The tensor's member, where its place in a region is not said any more."""
    said = _MEMBER.decode(tensor["parameters"])
    left: dict[str, Any] = {name: value for name, value in said.items() if name not in ABOUT_REGIONS}
    return {**tensor, "parameters": msgspec.Raw(msgspec.json.encode({**left, **parameters}))}
