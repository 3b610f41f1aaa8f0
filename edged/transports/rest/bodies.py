"""What the headers of an infer request say about its body, and the body itself; nothing is decoded here."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final, NamedTuple

from edged.errors import EdgedError
from edged.transports.rest.replies import JSON_LENGTH

_FORM: Final = "application/x-www-form-urlencoded"  # what curl -d says of anything
_HINT: Final = "It is the length of the JSON part in bytes; leave it out when the body is all JSON."


Headers = Sequence[tuple[bytes, bytes]]


class Head(NamedTuple):
    """The content type in lower case without its parameters, "" for none; json_length is -1 without one."""

    content_type: str
    json_length: int


def head(headers: Headers) -> Head:
    """Reads the headers of an infer request (names in lower case); EdgedError for what cannot be served."""
    kind, length = "", -1
    for name, value in headers:
        if name == b"content-type":
            kind = _kind(value)
        elif name == JSON_LENGTH:
            length = _number(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise EdgedError("unsupported", f"bodies compressed as {value[:32]!r} are not read", "Send it plain.")
    return Head(kind, length)


def check(found: Head, payload: bytes, headers: Headers) -> None:
    """Raises EdgedError `bad_input` when the body cannot be what its headers say."""
    if not payload and any(name == b"upgrade" for name, _ in headers):  # httptools skips such a body
        said = "the body of a request with an Upgrade header is not read"
        raise EdgedError("bad_input", said, "Speak plain HTTP/1.1 (Java: HttpClient.Version.HTTP_1_1).")
    if not payload:
        raise EdgedError("bad_input", "the body is empty", "Send the model's inputs in the body.")
    if found.json_length > len(payload):
        said = f"Inference-Header-Content-Length is {found.json_length}, the body has {len(payload)} bytes"
        raise EdgedError("bad_input", said, _HINT)


async def read(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> bytes | None:
    """The whole body; None when the client went away, or was refused, before its end."""
    message = await receive()
    if message["type"] != "http.request":
        return None
    first: bytes = message["body"]
    if not message["more_body"]:
        return first
    parts = [first]
    while message["more_body"]:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message["body"])
    return b"".join(parts)


@functools.lru_cache(maxsize=64)
def _kind(value: bytes) -> str:
    kind = value.decode("latin-1").partition(";")[0].strip().lower()
    return "" if kind == _FORM else kind


def _number(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        shown = value[:32].decode("latin-1")
        raise EdgedError("bad_input", f"Inference-Header-Content-Length is {shown!r}, not a number", _HINT)
    return int(value)
