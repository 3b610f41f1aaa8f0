"""Answers of the HTTP API as values: status, headers and body, ready to be sent."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec

from edged.errors import Fault, as_oip, http_status
from edged.messages import Answer, with_parameters

Header = tuple[bytes, bytes]

JSON_LENGTH: Final = b"inference-header-content-length"
_JSON: Final = (b"content-type", b"application/json")
_BINARY: Final = (b"content-type", b"application/octet-stream")
_METRICS: Final = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class Reply(NamedTuple):
    """One HTTP answer, its Content-Length among the headers."""

    status: int
    headers: list[Header]
    body: bytes


def json(status: int, value: object) -> Reply:
    body = msgspec.json.encode(value)
    return Reply(status, [_JSON, _length(body)], body)


def metrics(body: bytes) -> Reply:
    return Reply(200, [_METRICS, _length(body)], body)


def answered(answer: Answer) -> Reply:
    """A model's answer: pure JSON, or JSON with raw tensors behind it and the header that says where."""
    body, json_length = with_parameters(answer, {})
    if json_length:
        return Reply(200, [_BINARY, _length(body), (JSON_LENGTH, b"%d" % json_length)], body)
    return Reply(200, [_JSON, _length(body)], body)


def refused(problem: Fault, *headers: Header) -> Reply:
    """An error in the Open Inference Protocol's shape, its status from the table of codes."""
    reply = json(http_status(problem.code), as_oip(problem))
    reply.headers.extend(headers)
    return reply


def closing(problem: Fault) -> bytes:
    """The same as bytes on the wire, the last ones of their connection."""
    status, headers, body = refused(problem, (b"connection", b"close"))
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()]
    lines += [b"%s: %s\r\n" % header for header in headers]
    return b"".join([*lines, b"\r\n", body])


def _length(body: bytes) -> Header:
    return (b"content-length", b"%d" % len(body))
