"""Answers of the HTTP API as values: status line and headers as bytes, and a body."""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec

from edged.errors import Fault, as_oip, http_status
from edged.messages import Answer, with_parameters

JSON_LENGTH: Final = b"inference-header-content-length"

# How a reply's header ends: what becomes of the connection. 1.1 stays without a word, 1.0 has to be told.
STAY: Final = b"\r\n"
KEEP: Final = b"connection: keep-alive\r\n\r\n"
CLOSE: Final = b"connection: close\r\n\r\n"

_BEARER: Final = (b"www-authenticate", b"Bearer")
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_OK: Final = b"HTTP/1.1 200 OK\r\n"
_JSON: Final = b"content-type: application/json\r\ncontent-length: %d\r\n"
_BINARY: Final = b"content-type: application/octet-stream\r\n" + JSON_LENGTH + b": %d\r\ncontent-length: %d\r\n"
_METRICS: Final = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: %d\r\n"
_OK_JSON: Final = _OK + _JSON
_OK_BINARY: Final = _OK + _BINARY
_STATUS: Final = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus}


class Reply(NamedTuple):
    """One HTTP answer; `head` lacks only how it ends: STAY, KEEP or CLOSE."""

    head: bytes
    body: bytes


def json(status: int, value: object) -> Reply:
    body = msgspec.json.encode(value)
    return Reply(_STATUS[status] + _JSON % len(body), body)


def metrics(body: bytes) -> Reply:
    return Reply(_OK + _METRICS % len(body), body)


def answered(answer: Answer) -> Reply:
    """A model's answer: pure JSON, or JSON with raw tensors behind it and the header that says where."""
    body, json_length = with_parameters(answer, {})
    return Reply(_ok(json_length, len(body)), body)


@functools.lru_cache(maxsize=256)
def _ok(json_length: int, size: int) -> bytes:
    """How an answer of so many bytes begins. Cached, because a model's answers are mostly of one size."""
    return _OK_BINARY % (json_length, size) if json_length else _OK_JSON % size


def refused(problem: Fault, *headers: tuple[bytes, bytes]) -> Reply:
    """An error in the Open Inference Protocol's shape, its status from the table of codes."""
    reply = json(http_status(problem.code), as_oip(problem))
    if problem.code == "unauthorized":
        headers = (*headers, _BEARER)
    return Reply(reply.head + b"".join(b"%s: %s\r\n" % header for header in headers), reply.body)
