"""The fast lane's frames, byte by byte as docs/fast.md has them: bytes in, values out.

A frame is `head | name | body`. The head is all that a router needs; of a request the body is the worker's
alone, which says what the tensors are before it has their bytes, so that whoever has seen that part before need not
read it again. Little-endian throughout. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

import msgspec

from edged.errors import Fault, as_json
from edged.tensors import DATATYPES

Buffer = bytes | bytearray | memoryview

MAGIC: Final = 0xED
# Kinds: what a client sends; an answer has the highest bit besides.
INFER: Final = 0x01
DESCRIBE: Final = 0x02
RING: Final = 0x03
RESULT: Final = 0x81
DESCRIPTION: Final = 0x82
RINGED: Final = 0x83
ERROR: Final = 0xFF
# Flags of a frame.
IN_RING: Final = 0x01  # the body lies in the client's ring; a Place, or of a result a Part, says where
RESENT: Final = 0x02  # it was sent before, on a connection that ended without an answer to it
NONFINITE: Final = 0x04  # of a result: a value of it is NaN or infinite
RETRIED: Final = 0x08  # of a result: a process ended on the way to it
# Flags of a request's body.
STEPS: Final = 0x01

HEAD: Final = Struct("<IBBBBQII")  # size, magic, kind, flags, length of the name, id, deadline in ms, 0
PLACE: Final = Struct("<QQQQ")  # of a request in the ring: offset, size; room for its result: offset, size
PART: Final = Struct("<QQ")  # of a result in the ring: offset, size
_BODY: Final = Struct("<BBHI")  # flags, outputs asked for, tensors, bytes of what describes them
_TENSOR: Final = Struct("<BBHI")  # datatype, axes, length of the name, bytes of data
_ASKED: Final = Struct("<H")
_ALIGNED: Final = 8  # each tensor's bytes begin at a multiple of this, from where the body begins
_MOST_AXES: Final = 32
_SHAPES: Final = tuple(Struct(f"<{axes}I") for axes in range(_MOST_AXES + 1))

_NAMES: Final = tuple(kind.oip for kind in DATATYPES)  # a datatype's number is its place here, from 1
_NUMBERS: Final = {name: number for number, name in enumerate(_NAMES, 1)}
_JSON: Final = msgspec.json.Encoder()


class Malformed(Exception):
    """Bytes that are no frame, or no body; the text says what is wrong with them."""


class Head(NamedTuple):
    """`size` bytes follow: `name` of them the name (of a result: the version that answered), then the body."""

    size: int
    kind: int
    flags: int
    name: int
    id: int
    deadline_ms: int


class Tensor(NamedTuple):
    """`size` bytes of it lie at `start` of the body: row-major, BYTES as a uint32 length and UTF-8 each."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int
    start: int


class Body(NamedTuple):
    """`asked`: the outputs that a request wants, () for all. `size`: how many bytes the whole body has to have."""

    tensors: tuple[Tensor, ...]
    asked: tuple[str, ...]
    flags: int
    size: int


def read_head(data: Buffer, at: int = 0) -> Head:
    """The head at `at` of `data`, which has HEAD.size bytes from there. Raises Malformed."""
    size, magic, kind, flags, name, number, deadline_ms, zero = HEAD.unpack_from(data, at)
    if magic != MAGIC:
        raise Malformed("a frame begins with its size in four bytes and then 0xED: this is something else")
    if zero:
        raise Malformed("the last four bytes of a frame's head are 0 in this version")
    if name > size:
        raise Malformed(f"a name of {name} bytes in a frame of {size}")
    return Head(size, kind, flags, name, number, deadline_ms)


def head(kind: int, size: int, id: int = 0, *, flags: int = 0, name: int = 0, deadline_ms: int = 0) -> bytes:
    """A head; `size` counts the name and the body."""
    return HEAD.pack(size, MAGIC, kind, flags, name, id, deadline_ms, 0)


def error(id: int, problem: Fault) -> bytes:
    """A whole ERROR frame. `id` is the request's; 0 when it is about the connection, which then ends."""
    body = _JSON.encode(as_json(problem))
    return head(ERROR, len(body), id) + body


# --- bodies of requests and results -------------------------------------------------------------------


def described_size(body: Buffer) -> int:
    """How many bytes of a body say what its tensors are, by its own word; 0 for no body."""
    return _BODY.size + int(_BODY.unpack_from(body)[3]) if len(body) >= _BODY.size else 0


def described(body: Buffer) -> bytes:
    """The part of a body that says what its tensors are; read_body reads it. Raises Malformed."""
    end = described_size(body)
    if not end:
        raise Malformed(f"a body of {len(body)} bytes, it has {_BODY.size} at least")
    if end > len(body):
        raise Malformed(f"a body of {len(body)} bytes whose tensors are described in {end}")
    return bytes(body[:end])


def read_body(description: bytes) -> Body:
    """What `described` gave, as values. The tensors' bytes are not looked at. Raises Malformed."""
    flags, asked, count, _ = _BODY.unpack_from(description)
    end = len(description)
    at, start = _BODY.size, _aligned(end)
    tensors: list[Tensor] = []
    for _ in range(count):
        if at + _TENSOR.size > end:
            raise Malformed(f"tensor {len(tensors)} is described beyond the description's {end} bytes")
        number, axes, length, size = _TENSOR.unpack_from(description, at)
        at += _TENSOR.size
        if not 1 <= number <= len(_NAMES):
            raise Malformed(f"tensor {len(tensors)} has datatype {number}, there are 1 to {len(_NAMES)}")
        if axes > _MOST_AXES:
            raise Malformed(f"tensor {len(tensors)} has {axes} axes, at most {_MOST_AXES} are allowed")
        if at + 4 * axes + length > end:
            raise Malformed(f"tensor {len(tensors)} is described beyond the description's {end} bytes")
        shape: tuple[int, ...] = _SHAPES[axes].unpack_from(description, at)
        at += 4 * axes
        tensors.append(Tensor(_text(description[at : at + length]), _NAMES[number - 1], shape, size, start))
        at += length
        start = _aligned(start + size)
    names: list[str] = []
    for _ in range(asked):
        length = _ASKED.unpack_from(description, at)[0] if at + _ASKED.size <= end else end
        at += _ASKED.size
        if at + length > end:
            raise Malformed(f"output {len(names)} is named beyond the description's {end} bytes")
        names.append(_text(description[at : at + length]))
        at += length
    if at != end:
        raise Malformed(f"{end - at} bytes are left of the description behind its last entry")
    whole = tensors[-1].start + tensors[-1].size if tensors else end
    return Body(tuple(tensors), tuple(names), flags, whole)


def describe(
    tensors: Sequence[tuple[str, str, Sequence[int], int]], asked: Sequence[str] = (), *, flags: int = 0
) -> tuple[bytes, list[int]]:
    """The first part of a body, of each tensor's (name, datatype, shape, bytes of data), filled up to where the data
    begins; and how many zero bytes come behind the data of each tensor.
    """
    parts: list[bytes] = []
    for name, datatype, shape, size in tensors:
        text = name.encode()
        parts += (_TENSOR.pack(_NUMBERS[datatype], len(shape), len(text), size), _SHAPES[len(shape)].pack(*shape), text)
    for name in asked:
        text = name.encode()
        parts += (_ASKED.pack(len(text)), text)
    said = b"".join(parts)
    begin = _BODY.pack(flags, len(asked), len(tensors), len(said)) + said
    if tensors:
        begin += bytes(_aligned(len(begin)) - len(begin))
    sizes = [size for _, _, _, size in tensors]
    return begin, [_aligned(size) - size for size in sizes[:-1]] + [0] * bool(sizes)


def _aligned(at: int) -> int:
    return -(-at // _ALIGNED) * _ALIGNED


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Malformed("a name that is not UTF-8") from error
