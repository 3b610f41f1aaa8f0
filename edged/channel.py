"""The messages between the daemon and a worker, and how they travel: one SEQPACKET message each.

A message is `length of header | header (msgpack) | payloads`. It is at most 64 KiB (RULES 11); payloads
that do not fit lie in a slot of a ring that both sides have mapped (RULES 12), or, when they do not fit
that either, travel in a one-shot sealed memfd whose descriptor comes with the message. Used by both
sides: the daemon with a non-blocking socket, the worker with a blocking one.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from edged.config.steps import Form, Postprocess, Preprocess, ResultFormat
from edged.door import Leave, Listen, Sampled, Tallies
from edged.errors import Fault
from edged.rings import Ring
from edged.tensors import Signature

MESSAGE_LIMIT: Final = 64 * 1024

# Where a message's payloads are, when not in a slot of the sender's ring, whose number is 0 or more.
INLINE: Final = -1
MEMFD: Final = -2
_LENGTH: Final = struct.Struct("<I")
_ROOM_FOR_RIGHTS: Final = socket.CMSG_SPACE(4 * 4)
_CUT_SHORT: Final = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)  # an int: the enumeration's `|` costs 2 us
_CLOEXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class ProtocolError(Exception):
    """The other side sent what this protocol does not allow; the channel is of no further use."""


class Closed(Exception):
    """The other side has closed its end."""


# --- daemon to worker -------------------------------------------------------------------------------


class Open(msgspec.Struct, frozen=True, tag="open"):
    """The first message: load this model and prepare to run it.

    `memory` is bytes, `batch_max` inputs; `cpus` () leaves the process all cores. `providers`: the first that
    works. `prepared`: the file is of session.write_prepared's making. `prepare` names a folder to put that form into;
    the worker then ends after Opened. `result` is what inputs of the `forms` are answered with; the others get the
    protocol's response. `beside`: the files in its folder that it may keep weights in, None: any.
    """

    model: str
    version: str
    file: str
    threads: int
    memory: int
    message_limit: int
    batch_max: int
    forms: tuple[Form, ...]
    preprocess: tuple[Preprocess, ...]
    postprocess: tuple[Postprocess, ...]
    cpus: tuple[int, ...] = ()
    prepared: bool = False
    prepare: str = ""
    result: ResultFormat = "oip"
    beside: tuple[str, ...] | None = ()
    providers: tuple[str, ...] = ("cpu",)


class InputHead(msgspec.Struct, frozen=True, array_like=True):
    """One input of a batch; `size` is its payload's bytes. The other fields are those of messages.Input.

    One whose own time stamp is before `oldest_ms` (ms since 1970; 0: any) is answered `too_old`.
    `memory`: the number of its stream where the worker is to remember what came on it; 0: nothing.
    """

    size: int
    form: int = -1
    content_type: str = ""
    json_length: int = -1
    binary: bool = False
    id: str = ""
    oldest_ms: int = 0
    copy: bool = False
    memory: int = 0


class Batch(msgspec.Struct, frozen=True, tag="batch"):
    """Inputs to run, answered by one Answers with the same `number`.

    `place`: where the payloads are. `room`: the slot of the worker's ring that is the answer's, INLINE for none.
    """

    number: int
    heads: tuple[InputHead, ...]
    place: int = INLINE
    room: int = INLINE


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """Asks for one made-up input that fits the signature; the same `seed` gives the same input. `room` as in Batch."""

    number: int
    seed: int
    room: int = INLINE


class Compare(msgspec.Struct, frozen=True, tag="compare"):
    """Asks for one case of a golden file to be run; cases are asked for in order, from 0.

    The answer is an Answers whose one payload is a tensors.Compared as msgpack, or a fault.
    """

    number: int
    file: str
    case: int
    atol: float
    rtol: float


class Gild(msgspec.Struct, frozen=True, tag="gild"):
    """Asks for a golden file to be written `to`, of the inputs in another file; for operators. Answered as Compare."""

    number: int
    inputs: str
    to: str
    atol: float
    rtol: float


# --- worker to daemon -------------------------------------------------------------------------------


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The file is an ONNX model that can be loaded; measuring it comes next."""

    signature: Signature


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded and has run. `run_s` is wall time of one run at batch 1, after warm-up.

    `batch_max` is how many inputs one run may stack: 1 where the graph has no free first axis or where
    the measurement says that stacking does not pay (`gain` < 1.2: cost per input alone over stacked).
    `providers` are onnxruntime's, the one that runs the model first; `fallback` says why it is not the first that was
    asked for, "" when it is.
    """

    signature: Signature
    providers: tuple[str, ...]
    load_s: float
    run_s: float
    batch_max: int
    gain: float
    fallback: str = ""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The model cannot be loaded; the worker ends after this. `where` is as in errors.EdgedError."""

    fault: Fault
    where: str = ""


class AnswerHead(msgspec.Struct, frozen=True, array_like=True):
    """The outcome of one input: `fault` when it failed; then `own` says that the model is to blame.

    `size` bytes of payload, JSON with `json_length` > 0 when raw tensors follow it. The last `copy` of them are the
    result once more, for subscribers, where the input asked for that; -1: it has no room.
    """

    size: int
    json_length: int = 0
    fault: Fault | None = None
    own: bool = False
    ts_ms: int | None = None
    nonfinite: bool = False
    copy: int = 0


class Answers(msgspec.Struct, frozen=True, tag="answers"):
    """The outcomes of a batch, in its order. Nanoseconds of wall time.

    `cpu_ns` is this process's CPU time, and on a GPU the wall's, which its work does not show in (RULES 25).
    `rows`: how many inferences each run was that the batch took; those that failed are left out.
    """

    number: int
    heads: tuple[AnswerHead, ...]
    place: int = INLINE
    decode_ns: int = 0
    run_ns: int = 0
    encode_ns: int = 0
    cpu_ns: int = 0
    rows: tuple[int, ...] = ()


Message = Open | Batch | Generate | Compare | Gild | Listen | Leave | Opened | Ready | Refused | Answers | Tallies

_BRINGING: Final = (Open, Listen)  # descriptors that are the receiver's to keep
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Message)


def inline_room(payload_bytes: int, inputs: int) -> bool:
    """Whether a batch of so many inputs and bytes surely fits one message (a head takes < 512 bytes)."""
    return payload_bytes + 512 * inputs + 256 <= MESSAGE_LIMIT


def send(
    sock: socket.socket,
    message: Message,
    payloads: Sequence[bytes | memoryview] = (),
    *,
    ring: Ring | None = None,
    pass_on: Sequence[int] = (),
) -> None:
    """Sends `message`, its payloads where its `place` says: in a slot of `ring`, which this side writes.

    `pass_on` are descriptors that go with it; the caller keeps its own. Raises BlockingIOError when a
    non-blocking socket is full, BrokenPipeError or ConnectionResetError when the other side is gone,
    ProtocolError for a header or an inline message above the limit.
    """
    header = _ENCODER.encode(message)
    parts: list[bytes | memoryview] = [_LENGTH.pack(len(header)), header]
    place = getattr(message, "place", INLINE)
    if place == INLINE:
        parts.extend(payloads)
    _check_size(parts)
    if place == MEMFD:
        descriptor = _sealed(payloads)
        try:
            sock.sendmsg(parts, _rights([descriptor]))
        finally:
            os.close(descriptor)
        return
    if place >= 0:
        if ring is None:
            raise ProtocolError("there is no ring to put the payloads into")
        ring.write(place, payloads)
    if pass_on:
        sock.sendmsg(parts, _rights(pass_on))
    else:
        sock.sendmsg(parts)


def receive(
    sock: socket.socket, *, payload_limit: int, ring: Ring | None = None, passed: list[int] | None = None
) -> tuple[Message, memoryview]:
    """The next message and its payloads, joined in the order of its heads.

    Payloads in a slot of `ring`, which the other side writes, are not copied: they are to be read before
    the slot is used again. Descriptors that come with an Open or a Listen are the caller's, appended to `passed`.
    Raises Closed at the end of the channel, BlockingIOError when a non-blocking socket has nothing, and
    ProtocolError for anything malformed, truncated, unsealed, outside the ring or above `payload_limit`.
    """
    try:
        data, ancillary, flags, _ = sock.recvmsg(MESSAGE_LIMIT, _ROOM_FOR_RIGHTS, _CLOEXEC)
    except ConnectionResetError as error:
        raise Closed from error
    descriptors = _descriptors(ancillary) if ancillary else []
    try:
        if not data:
            raise Closed
        if flags & _CUT_SHORT:
            raise ProtocolError("a message was cut short")
        message, end = _header(data)
        payload = _payload(message, memoryview(data)[end:], descriptors, payload_limit, ring)
        if isinstance(message, _BRINGING) and passed is not None:
            passed += descriptors
            descriptors = []
        return message, payload
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _header(data: bytes) -> tuple[Message, int]:
    """The message, and where in `data` its inline payloads begin."""
    if len(data) < _LENGTH.size:
        raise ProtocolError("a message without a header")
    end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    if end > len(data):
        raise ProtocolError("a header longer than its message")
    try:
        return _DECODER.decode(memoryview(data)[_LENGTH.size : end]), end
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"a header that cannot be read: {error}") from error


def _payload(message: Message, inline: memoryview, descriptors: list[int], limit: int, ring: Ring | None) -> memoryview:
    place = getattr(message, "place", INLINE)
    expected = 1 if place == MEMFD else len(descriptors) if isinstance(message, _BRINGING) else 0
    if len(descriptors) != expected:
        raise ProtocolError(f"{len(descriptors)} descriptors came with a message that announces {expected}")
    heads, size = getattr(message, "heads", ()), 0
    for head in heads:
        if head.size < 0:
            raise ProtocolError("a size below zero")
        size += head.size
    if place >= 0:
        payload = _in_ring(ring, place, size)
    else:
        payload = _read_sealed(descriptors[0], limit) if place == MEMFD else inline
    if heads and size != len(payload):
        raise ProtocolError("the sizes in the header do not add up to the payload")
    return payload


def _in_ring(ring: Ring | None, slot: int, size: int) -> memoryview:
    try:
        if ring is not None:
            return ring.view(slot, size)
    except ValueError as error:
        raise ProtocolError(f"a payload outside the ring: {error}") from error
    raise ProtocolError("a payload in a ring that is not there")


def split(heads: Sequence[InputHead | AnswerHead | Sampled], payload: memoryview) -> list[memoryview]:
    """Each head's part of the joined payloads."""
    parts, start = [], 0
    for head in heads:
        parts.append(payload[start : start + head.size])
        start += head.size
    return parts


def _check_size(parts: list[bytes | memoryview]) -> None:
    size = sum([len(part) for part in parts])
    if size > MESSAGE_LIMIT:
        raise ProtocolError(f"a message of {size} bytes is above {MESSAGE_LIMIT}")


def _sealed(payloads: Sequence[bytes | memoryview]) -> int:
    """A memfd with the payloads that nobody can change, shrink or grow any more."""
    descriptor = os.memfd_create("edged-payload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for payload in payloads:
            view = memoryview(payload)
            while view:
                view = view[os.write(descriptor, view) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read_sealed(descriptor: int, limit: int) -> memoryview:
    """Copies a memfd's content; a descriptor that is not a sealed memfd is a protocol error."""
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise ProtocolError("the descriptor is no memfd") from error
    if seals & _SEALS != _SEALS:
        raise ProtocolError("the memfd is not sealed")
    size = os.fstat(descriptor).st_size
    if size > limit:
        raise ProtocolError(f"a payload of {size} bytes is above {limit}")
    content = bytearray(size)
    view, offset = memoryview(content), 0
    while offset < size:
        read = os.preadv(descriptor, [view[offset:]], offset)
        if read == 0:
            raise ProtocolError("the memfd ended early")
        offset += read
    return view


def _rights(descriptors: Sequence[int]) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def pair() -> tuple[socket.socket, socket.socket]:
    """A channel: the daemon's end, non-blocking, and the worker's, blocking."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


def close(sock: socket.socket) -> None:
    """Closes an end; the other side then reads Closed."""
    with contextlib.suppress(OSError):
        sock.close()
