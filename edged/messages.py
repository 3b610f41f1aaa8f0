"""What the parts of the daemon hand each other: an input on its way in, its outcome on its way out."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from edged.errors import Fault


class Source(enum.Enum):
    """Where an input came from; decides what happens to it when the queue is full (RULES 19)."""

    HTTP = "http"
    GRPC = "grpc"
    FAST = "fast"
    MQTT_QOS0 = "mqtt0"
    MQTT_QOS1 = "mqtt1"


class Admission(enum.Enum):
    """What became of an offered input. REFUSED: its reply has been called already."""

    TAKEN = "taken"
    REFUSED = "refused"
    BLOCKED = "blocked"


class Answer(msgspec.Struct, frozen=True):
    """A result: `payload` is JSON, with raw tensors behind its first `json_length` bytes when that is > 0.

    `copy` is what an input with `copy` has for subscribers; None where it would be above `limits.message`.
    `ts_ms` is the input's own time stamp when it had one. `nonfinite`: NaN or infinity became null.
    """

    payload: bytes
    json_length: int
    version: str
    ts_ms: int | None = None
    nonfinite: bool = False
    retried: bool = False
    copy: bytes | None = b""


Outcome = Answer | Fault


JOINED: Final = -2  # the `form` of an input that is made of several messages; its payload is what `pack` made
FAST: Final = -3  # of an input whose payload is the body of a fast lane's frame; so is the payload of its Answer
GRPC: Final = -4  # of one whose payload is a ModelInferRequest; its Answer has a ModelInferResponse, unless `binary`


class Value(msgspec.Struct, frozen=True, array_like=True):
    """One value of a joined input: `form` and `content_type` are its own, `oldest_ms` as in channel.InputHead."""

    form: int
    content_type: str
    oldest_ms: int
    payload: bytes


_VALUES: Final = msgspec.msgpack.Decoder(tuple[Value, ...])


def pack(values: Sequence[Value]) -> bytes:
    """Several values as one payload; `unpack` takes it apart."""
    return msgspec.msgpack.encode(values)


def unpack(payload: bytes | memoryview) -> tuple[Value, ...]:
    """Raises msgspec.DecodeError for anything that `pack` did not make."""
    return _VALUES.decode(payload)


class Input(msgspec.Struct, frozen=True, eq=False):
    """One undecoded input. `reply` is called exactly once, in the loop, with its final outcome.

    `form` is the index of the model's `inputs` entry that describes the payload, -1 for none, JOINED for several,
    FAST for the fast lane's own, GRPC for gRPC's. A payload that is no bytes is the sender's again once `reply` has
    been called.
    `json_length` is OIP's Inference-Header-Content-Length, -1 when absent. `binary`: the sender reads
    OIP binary tensors, and is answered in OIP whatever `output.format` makes of results. Times are of the monotonic
    clock, in seconds; `arrived_ms` is wall clock.
    `start_by_s`: when it is answered `deadline` if its run has not begun. `priority`: 1 goes first, 0 is as 2.
    `max_age_s`: it is not run when it is older, since its arrival or, where `stamped` allows, by its own time stamp.
    `memory`: a number for its stream where the worker is to remember what came on it (`missing: last`), else 0.
    `copy`: its result is published besides, as the configuration's `output` says.
    """

    model: str
    payload: bytes | memoryview
    source: Source
    reply: Callable[[Outcome], None]
    arrived_s: float
    arrived_ms: int = 0
    deadline_s: float | None = None
    id: str = ""
    stream: str = ""
    form: int = -1
    content_type: str = ""
    json_length: int = -1
    binary: bool = False
    max_age_s: float | None = None
    stamped: bool = False
    copy: bool = False
    memory: int = 0
    start_by_s: float | None = None
    priority: int = 0


_CLOSE: Final = ord("}")


def with_members(answer: Answer, members: dict[str, object]) -> bytes:
    """The answer's JSON object with more members at its end, for `output.format: prediction`."""
    more = msgspec.json.encode({**members, **_flags(answer)})
    return b"".join((answer.payload[:-1], b"," if len(answer.payload) > 2 else b"", more[1:]))


def with_parameters(answer: Answer, parameters: dict[str, object]) -> tuple[bytes, int]:
    """The answer's payload with `parameters` put at the end of its JSON object, and its new JSON length.

    The worker never writes that member, so that one place adds what only the daemon knows
    (`seq`, `age_ms`, `topic`). Returns (payload, json_length); json_length stays 0 for pure JSON.
    """
    if not (parameters or answer.nonfinite or answer.retried):
        return answer.payload, answer.json_length
    parameters = {**parameters, **_flags(answer)}
    end = answer.json_length or len(answer.payload)
    if answer.payload[end - 1] != _CLOSE:
        raise ValueError("an answer's JSON part must end with its closing brace")
    text = b"".join((answer.payload[: end - 1], b',"parameters":', msgspec.json.encode(parameters), b"}"))
    if not answer.json_length:
        return text, 0
    return text + answer.payload[end:], len(text)


def _flags(answer: Answer) -> dict[str, object]:
    flags: dict[str, object] = {"nonfinite": True} if answer.nonfinite else {}
    return {**flags, "retried": True} if answer.retried else flags
