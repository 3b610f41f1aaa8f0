"""JSON that strangers send, read strictly: nothing in it may cost more than its size, or mean two things.

At most 64 KiB, eight levels, whole numbers below 2^53, finite numbers, whole characters (RFC 7493, 2.1 and 2.2), no
name twice, no field that the reader does not know: a document is signed for what it says, so a part that an older
edged cannot keep is refused, not passed over. Pure.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final, NoReturn, TypeVar

import msgspec

LARGEST: Final = 64 * 1024
DEEPEST: Final = 8
_SAFE: Final = 2**53
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")

T = TypeVar("T")


class Malformed(ValueError):
    """Why a document is none; the message is for whoever sent it."""


def read(content: bytes, kind: type[T], *, largest: int = LARGEST) -> T:
    """`content` as a struct that forbids unknown fields. Raises Malformed."""
    try:
        return msgspec.convert(plain(content, largest=largest), kind)
    except msgspec.ValidationError as error:
        raise Malformed(str(error)) from error


def plain(content: bytes, *, largest: int = LARGEST) -> Any:
    """`content` as plain values. Raises Malformed."""
    if len(content) > largest:
        raise Malformed(f"{len(content)} bytes are more than {largest}")
    try:
        found = json.loads(content.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except Malformed:
        raise
    except RecursionError as error:  # CPython's own bound on its parser, far above DEEPEST
        raise Malformed(f"more than {DEEPEST} levels") from error
    except ValueError as error:
        raise Malformed(str(error)[:200]) from error
    _check(found, DEEPEST)
    return found


def base64_bytes(text: str) -> bytes:
    """Base64 in its one way: padded, nothing between, no bits left over (RFC 4648, 3.5). Raises Malformed."""
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Malformed("base64 is expected") from error
    if base64.b64encode(found) != text.encode():
        raise Malformed("base64 in its one way is expected")
    return found


def _check(found: Any, levels: int) -> None:
    """What the parser lets through: more levels, numbers that not every reader keeps, halves of characters."""
    kind = type(found)
    if kind is str:
        if not found.isascii() and _SURROGATE.search(found):
            raise Malformed("a text has half a character")
    elif kind is int or kind is float:
        if not -_SAFE < found < _SAFE:
            raise Malformed("a number is too large")
    elif kind is list or kind is dict:
        if not levels:
            raise Malformed(f"more than {DEEPEST} levels")
        if kind is dict:
            for name in found:
                _check(name, 0)
            found = found.values()
        for value in found:
            _check(value, levels - 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a name is there twice")
    return found


def _constant(text: str) -> NoReturn:
    raise Malformed(f"{text} is no number")
