"""Requests whose tensors lie in shared memory regions: brought into the body for the worker, and answers laid down.

A worker sees an ordinary request with raw tensors; what is in a region is read before it is offered and written when
its answer is there.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

import msgspec

from edged.errors import EdgedError, Fault, fault
from edged.messages import Answer, Outcome
from edged.oip.regions import Regions, Window

logger = logging.getLogger("edged.oip")

WORD: Final = b'"shared_memory_region"'
AT_ONCE: Final = 1024 * 1024  # bytes that are copied in the loop: some 100 us; more goes to a thread
_ABOUT_REGIONS: Final = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_SIZE_HINT: Final = "It is the tensor's bytes, or for an output the room for it."
_HINT: Final = "Exactly one of data, binary_data_size and shared_memory_region says where a tensor is."


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


class Brought(msgspec.Struct, frozen=True, eq=False):
    """A request as the worker is to see it: `parts` are joined by `body`. `places`: by output, where it goes."""

    json: bytes
    parts: tuple[bytes | memoryview | Window, ...]
    places: dict[str, Window]
    size: int

    def body(self) -> bytes:
        """The whole body; what is in regions is read now. For a thread where `size` is large. Raises EdgedError."""
        parts = (self.json, *self.parts)
        sizes = [part.size if isinstance(part, Window) else len(part) for part in parts]
        buffer, at = io.BytesIO(bytes(sum(sizes))), 0  # which is filled in its place, and given out without a copy
        with buffer.getbuffer() as place:
            for part, size in zip(parts, sizes, strict=True):
                if isinstance(part, Window):
                    part.read_into(place[at : at + size])
                else:
                    place[at : at + size] = part
                at += size
        return buffer.getvalue()

    def close(self) -> None:
        """For the loop's thread, when the request has its outcome: regions that are forgotten may go now."""
        for window in (*self.parts, *self.places.values()):
            if isinstance(window, Window):
                window.close()


def uses(payload: bytes, json_length: int) -> bool:
    """Whether a request may have tensors in regions."""
    return json_length != 0 and payload.find(WORD, 0, json_length if json_length > 0 else len(payload)) >= 0


def bring(payload: bytes, json_length: int, regions: Regions, limit: int) -> Brought | None:
    """What `payload` comes to; None for one without regions, or that cannot be read, which the worker tells.

    Raises EdgedError `bad_input` for what is not there, `input_too_large` above `limit` bytes.
    """
    end = json_length if json_length > 0 else len(payload)
    try:
        top, said = _TOP.decode(payload[:end]), _LISTS.decode(payload[:end])
        inputs = [(one, _parameters(one)) for one in said.inputs]
        outputs = [(one, _parameters(one)) for one in said.outputs]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not any(parameters.shared_memory_region is not None for _, parameters in (*inputs, *outputs)):
        return None
    made = _Making(payload, end, regions, limit)
    try:
        given = [made.input(one, parameters) for one, parameters in inputs]
        wanted = [made.output(one, parameters) for one, parameters in outputs]
    except BaseException:
        made.brought(b"").close()
        raise
    text = {**top, "inputs": given, **({"outputs": wanted} if wanted else {})}
    return made.brought(msgspec.json.encode(text))


class _Making:
    """One request while it is walked through, input by input: the raw tensors follow each other in that order."""

    def __init__(self, payload: bytes, end: int, regions: Regions, limit: int) -> None:
        self._payload = memoryview(payload)
        self._at = end
        self._regions = regions
        self._limit = limit
        self._size = end
        self._parts: list[bytes | memoryview | Window] = []
        self._places: dict[str, Window] = {}

    def input(self, tensor: Member, parameters: _Parameters) -> Member:
        region, size = parameters.shared_memory_region, parameters.binary_data_size
        if region is None:
            if size is not None:
                if self._at + size > len(self._payload):
                    left = len(self._payload) - self._at
                    raise EdgedError(
                        "bad_input", f"an input's binary_data_size is {size}, the body has {left} bytes left"
                    )
                self._parts.append(self._payload[self._at : self._at + size])
                self._at += size
            return tensor
        if size is not None or "data" in tensor:
            raise EdgedError("bad_input", "an input has shared_memory_region and values besides", _HINT)
        length = _length(parameters)
        self._size += length
        if self._size > self._limit:
            raise EdgedError(
                "input_too_large", f"the inputs in shared memory are above the limit of {self._limit} bytes"
            )
        self._parts.append(self._regions.window(region, parameters.shared_memory_offset, length, write=False))
        return _with(tensor, binary_data_size=length)

    def output(self, tensor: Member, parameters: _Parameters) -> Member:
        region = parameters.shared_memory_region
        if region is None:
            return tensor
        name = msgspec.json.decode(tensor.get("name", b'""'))
        if not isinstance(name, str) or name in self._places:
            raise EdgedError("bad_input", "an output is asked for twice, or has no name")
        length = _length(parameters)
        self._places[name] = self._regions.window(region, parameters.shared_memory_offset, length, write=True)
        return _with(tensor, binary_data=True)

    def brought(self, json: bytes) -> Brought:
        rest = self._payload[self._at :]  # of which the worker says that it is too much
        return Brought(json, (*self._parts, rest), self._places, self._size + len(self._payload) - self._at)


def laying_down(
    brought: Brought, settle: Callable[[Outcome], None], later: Callable[[Coroutine[Any, Any, None]], None]
) -> Callable[[Outcome], None]:
    """The `reply` of an input that was brought in: lays the outputs down in their regions, then settles.

    `later` has a coroutine done, for what takes longer. What a worker says is not believed: an answer that makes no
    sense is a fault.
    """

    def reply(outcome: Outcome) -> None:
        if not brought.places:
            brought.close()
            settle(outcome)
        elif isinstance(outcome, Fault) or len(outcome.payload) <= AT_ONCE:
            settle(_laid_down(outcome, brought))
            brought.close()
        else:
            later(in_thread(outcome))

    async def in_thread(outcome: Outcome) -> None:
        try:
            settle(await asyncio.to_thread(_laid_down, outcome, brought))
        finally:
            brought.close()

    return reply


def _laid_down(outcome: Outcome, brought: Brought) -> Outcome:
    try:
        return outcome if isinstance(outcome, Fault) else _shortened(outcome, brought.places)
    except EdgedError as error:
        return error.fault
    except Exception:
        logger.exception("an answer could not be laid down in shared memory")
        return fault("internal", "edged failed to lay the answer down in shared memory")


def _shortened(answer: Answer, places: dict[str, Window]) -> Answer:
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


def _length(parameters: _Parameters) -> int:
    if parameters.shared_memory_byte_size is None:
        raise EdgedError("bad_input", "a tensor in shared memory has no shared_memory_byte_size", _SIZE_HINT)
    return parameters.shared_memory_byte_size


def _with(tensor: Member, **parameters: object) -> Member:
    """The tensor's member, where its place in a region is not said any more."""
    said = _MEMBER.decode(tensor["parameters"])
    left: dict[str, Any] = {name: value for name, value in said.items() if name not in _ABOUT_REGIONS}
    return {**tensor, "parameters": msgspec.Raw(msgspec.json.encode({**left, **parameters}))}
