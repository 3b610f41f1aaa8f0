"""Protobuf's wire format, as far as an ONNX file and gRPC need it: the fields of a message, one after the other.

Everything is skipped that nobody asks for, so that a file's weights are never read (protobuf's encoding guide).
What reads raises ValueError and IndexError for bytes that are no such message. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

Buffer = memoryview
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(view: Buffer) -> Iterator[tuple[int, int | Buffer]]:
    """The fields of one message: (number, value), where a value is an integer or its bytes."""
    at = 0
    while at < len(view):
        tag, at = varint(view, at)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 2**29:  # more bits are cut off by some readers, and then it is another field
            raise ValueError("a field without a number")
        if wire == _VARINT:
            value, at = varint(view, at)
            yield number, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire, 0)
        if wire == _BYTES:
            size, at = varint(view, at)
        elif not size:
            raise ValueError(f"a field of the unknown wire type {wire}")
        if size > len(view) - at:
            raise ValueError("it ends in the middle of a field")
        yield number, view[at : at + size]
        at += size


class Walk:
    """Through one message of a client's and through whatever lies in it: at most `most` fields, all together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most

    def fields(self, view: Buffer) -> Iterator[tuple[int, int | Buffer]]:
        """As `fields`. Raises ValueError for the one too many as well."""
        for field in fields(view):
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"more than {self._most} fields")
            yield field


def varint(view: Buffer, at: int) -> tuple[int, int]:
    """The whole number at `at`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("an integer of more than ten bytes")


def packed(view: Buffer) -> Iterator[int]:
    """The whole numbers of a packed field."""
    at = 0
    while at < len(view):
        value, at = varint(view, at)
        yield value


def message(value: int | Buffer) -> Buffer:
    """The value of a field that is a message."""
    if isinstance(value, int):
        raise ValueError("an integer where a message is expected")  # noqa: TRY004 - the file's fault, not the caller's
    return value


def text(value: int | Buffer | bytes) -> str:
    """The value of a field that is a text."""
    if isinstance(value, int):
        raise ValueError("an integer where a text is expected")  # noqa: TRY004 - the file's fault, not the caller's
    return bytes(value).decode("utf-8", "replace")


# --- to bytes ---------------------------------------------------------------------------------------

_SIGN: Final = 2**64 - 1  # negative numbers are written as their two's complement


def as_varint(number: int) -> bytes:
    """A whole number, from -2^63 to 2^64 - 1."""
    number &= _SIGN
    if number < 0x80:
        return bytes((number,))
    found = bytearray()
    while number >= 0x80:
        found.append(0x80 | number & 0x7F)
        number >>= 7
    found.append(number)
    return bytes(found)


def put(number: int, data: bytes) -> bytes:
    """A field that is a text, bytes, a message or a packed list."""
    return b"".join((as_varint(number << 3 | _BYTES), as_varint(len(data)), data))


def lead(number: int, size: int) -> bytes:
    """What stands in front of such a field's `size` bytes, for who has those elsewhere."""
    return as_varint(number << 3 | _BYTES) + as_varint(size)


def put_number(number: int, value: int) -> bytes:
    """A field that is a whole number, or true or false."""
    return as_varint(number << 3 | _VARINT) + as_varint(value)
