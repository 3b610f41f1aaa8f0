"""JSON that strangers send, read strictly: nothing in it may cost more than its size, or mean two things.

At most 64 KiB, eight levels, whole numbers below 2^53 (RFC 7493, 2.2), no name twice, no field that the reader
does not know: a document is signed for what it says, so a part that an older edged cannot keep is refused,
not passed over. Pure.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn, TypeVar

import msgspec

LARGEST: Final = 64 * 1024
DEEPEST: Final = 8
_SAFE: Final = 2**53

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
    _check_depth(content)
    try:
        return json.loads(
            content.decode(),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_constant=_constant,
        )
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)[:200]) from error


def _check_depth(content: bytes) -> None:
    """Counts brackets outside of texts, before a parser that recurses sees them."""
    depth, quoted, escaped = 0, False, False
    for byte in content:
        if quoted:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                quoted = False
        elif byte == 0x22:
            quoted = True
        elif byte in b"[{":
            depth += 1
            if depth > DEEPEST:
                raise Malformed(f"more than {DEEPEST} levels")
        elif byte in b"]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a name is there twice")
    return found


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) >= _SAFE:
        raise Malformed(f"the number {text[:24]} is too large")
    return int(text)


def _constant(text: str) -> NoReturn:
    raise Malformed(f"{text} is no number")
