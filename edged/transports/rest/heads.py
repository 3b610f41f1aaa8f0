"""Request headers as values: read by httptools, judged once, and kept for the next request that is the same.

A client sends the same header with most of its requests, and a header's meaning depends on its bytes
alone: so the bytes are the key to it.
"""

from __future__ import annotations

import functools
from typing import Final

import httptools
import msgspec

from edged.errors import EdgedError, Fault, fault
from edged.oip.inflate import WINDOWS
from edged.transports.rest.replies import CLOSE, JSON_LENGTH, KEEP, STAY
from edged.transports.rest.routes import Target, target

END: Final = b"\r\n\r\n"
TOPIC: Final = b"edged-topic"
_KEPT: Final = 256  # headers; each is kept as long as it is among the last that were used
_KEPT_BYTES: Final = 1024  # of a header, so that strangers cannot fill more than this times _KEPT
_FORM: Final = "application/x-www-form-urlencoded"  # what curl -d says of anything
_LENGTH_HINT: Final = "It is the length of the JSON part in bytes; leave it out when the body is all JSON."
_INVALID: Final = ("bad_input", "the request is not valid HTTP/1.1", "Check it with `curl -v`.")


class Head(msgspec.Struct, frozen=True):
    """One request's header.

    `length` is the body's Content-Length, 0 for none; `chunked` bodies have none. `ending` is the header
    that tells the client whether the connection goes on after the answer, as `keep` says. `expects`: it
    waits for 100 Continue. `content_type` is in lower case without parameters, "" for none; `json_length`
    is -1 without one; `coding` is how the body is compressed, "" for not at all; `topic` is the one that an
    input is to be read as if it had come on, "" for none; `token` is the Bearer token, b"" for none. `problem`
    is what keeps an infer request from being served, told after its body.
    """

    method: str
    url: bytes
    target: Target
    length: int
    chunked: bool
    keep: bool
    ending: bytes
    expects: bool
    content_type: str
    json_length: int
    coding: str
    topic: str
    token: bytes
    problem: Fault | None


def read(data: bytes) -> Head:
    """The header in `data`, which ends with the empty line. Raises EdgedError `bad_input` or `unsupported`."""
    return _read_again(data) if len(data) <= _KEPT_BYTES else _read(data)


def check_start(first: bytes) -> None:
    """Raises EdgedError `bad_input` for the first bytes of what is no header: a TLS handshake, a frame."""
    if not (first[:1].isupper() and first.isascii() and first.decode().isprintable()):
        raise EdgedError(*_INVALID)


class _Notes:
    """What httptools calls while it reads: the URL, which may come in pieces, and the headers."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[bytes, bytes] = {}  # names in lower case; two of one name are one list, as RFC 9110 has it
        self.complete = False
        self.keep = False
        self.parser: httptools.HttpRequestParser | None = None

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.headers[name] = self.headers[name] + b", " + value if name in self.headers else value

    def on_headers_complete(self) -> None:
        self.complete = True
        if self.parser is not None:
            self.keep = self.parser.should_keep_alive()  # of the header only now: the parser forgets it


def _read(data: bytes) -> Head:
    notes = _Notes()
    parser = notes.parser = httptools.HttpRequestParser(notes)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # declined: the request is answered as if nothing else had been asked for
    except httptools.HttpParserError as error:
        raise EdgedError(*_INVALID) from error
    finally:
        notes.parser = None
    version = parser.get_http_version()
    if not notes.complete or version not in ("1.0", "1.1"):
        raise EdgedError(*_INVALID)
    headers, coding = notes.headers, notes.headers.get(b"transfer-encoding", b"").strip().lower()
    if coding not in (b"", b"chunked"):
        shown = coding[:32].decode("latin-1")
        raise EdgedError("unsupported", f"bodies coded as {shown!r} are not read", "Send it plain, or chunked.")
    path = target(_path(notes.url))
    kind, json_length, content, problem = _of_infer(headers) if path.kind == "infer" else ("", -1, "", None)
    return Head(
        method=parser.get_method().decode("ascii"),
        url=notes.url,
        target=path,
        length=int(headers.get(b"content-length", 0)),
        chunked=bool(coding),
        keep=notes.keep,
        ending=(STAY if version == "1.1" else KEEP) if notes.keep else CLOSE,
        expects=version == "1.1" and headers.get(b"expect", b"").lower() == b"100-continue",
        content_type=kind,
        json_length=json_length,
        coding=content,
        topic=headers.get(TOPIC, b"").decode("utf-8", "replace"),
        token=_token(headers.get(b"authorization", b"")),
        problem=problem,
    )


_read_again = functools.lru_cache(maxsize=_KEPT)(_read)


def _path(url: bytes) -> bytes:
    """The path of a URL that may be a whole address (RFC 9112, 3.2.2)."""
    if url.startswith(b"/"):
        return url
    try:
        path = httptools.parse_url(url).path
    except httptools.HttpParserError as error:
        raise EdgedError(*_INVALID) from error
    if path is None:  # CONNECT, which is for proxies
        raise EdgedError(*_INVALID)
    return bytes(path)


def _token(authorization: bytes) -> bytes:
    scheme, _, token = authorization.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _of_infer(headers: dict[bytes, bytes]) -> tuple[str, int, str, Fault | None]:
    """Content type, JSON length, content coding, and why the request cannot be served."""
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    coding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    length = headers.get(JSON_LENGTH)
    problem = None
    if coding in ("identity", ""):
        coding = ""
    elif coding not in WINDOWS:
        problem = fault("unsupported", f"bodies compressed as {coding[:32]!r} are not read", "Send gzip, or it plain.")
    if length is not None and (not length.isdigit() or len(length) > 18):
        shown = length[:32].decode("latin-1")
        what = f"Inference-Header-Content-Length is {shown!r}, not a number"
        return kind, -1, coding, problem or fault("bad_input", what, _LENGTH_HINT)
    return "" if kind == _FORM else kind, -1 if length is None else int(length), coding, problem


def check_length(head: Head, payload: bytes) -> None:
    """Raises EdgedError `bad_input` when the body cannot be what its header says."""
    if not payload:
        raise EdgedError("bad_input", "the body is empty", "Send the model's inputs in the body.")
    if head.json_length > len(payload):
        said = f"Inference-Header-Content-Length is {head.json_length}, the body has {len(payload)} bytes"
        raise EdgedError("bad_input", said, _LENGTH_HINT)
