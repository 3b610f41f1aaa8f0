"""What is said around messages: a call's first headers, its trailers, and a word to who speaks something else."""

from __future__ import annotations

import urllib.parse
from typing import Final

import msgspec

from edged.errors import Fault, as_oip, fault, grpc_status
from edged.transports.rpc.frames import END_HEADERS, END_STREAM, HEADERS, frame
from edged.transports.rpc.heads import CODINGS
from edged.transports.rpc.hpack import encode

_LONGEST: Final = 1024  # characters of an error; a name that a client sent may be in it
_PLAIN: Final = "".join(chr(code) for code in range(0x20, 0x7F) if code != ord("%"))

_TAKEN: Final = b",".join((b"identity", *CODINGS))
RESPONSE: Final = encode(
    ((b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-accept-encoding", _TAKEN))
)
# The one mistake of a client that has to be INTERNAL (grpc/doc/compression.md).
MISMARKED: Final = fault(
    "bad_input", "a message is marked as compressed, and grpc-encoding does not say how", "It says gzip or deflate."
)
_INTERNAL: Final = grpc_status("internal")
DONE: Final = encode(((b"grpc-status", b"0"),))
_NO_GRPC: Final = encode(((b":status", b"415"), (b"accept-post", b"application/grpc")))


def words(problem: Fault) -> str:
    """An error in one line, as a client's exception shows it: the code, what happened, what to do."""
    said = f"{problem.code}: {problem.message}"[:_LONGEST]
    return f"{said}{'' if said.endswith('.') else '.'} {problem.hint}".strip()


def trailers(problem: Fault) -> bytes:
    """How a call ends with an error. `edged-code` is for programs."""
    message = urllib.parse.quote(words(problem), safe=_PLAIN).encode()
    status = _INTERNAL if problem == MISMARKED else grpc_status(problem.code)
    code = problem.code.encode()
    return encode(((b"grpc-status", b"%d" % status), (b"grpc-message", message), (b"edged-code", code)))


def refused(number: int, problem: Fault) -> bytes:
    """The whole answer to a call that was not let in."""
    return frame(HEADERS, END_HEADERS | END_STREAM, number, RESPONSE + trailers(problem))


def no_grpc(number: int) -> bytes:
    """The answer to a request that is no call of gRPC's (gRPC over HTTP/2, 415)."""
    return frame(HEADERS, END_HEADERS | END_STREAM, number, _NO_GRPC)


def _no_http2() -> bytes:
    problem = fault("bad_input", "this socket speaks gRPC alone", "HTTP is served on sockets.unix and sockets.http.")
    body = msgspec.json.encode(as_oip(problem))
    head = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


NO_HTTP2: Final = _no_http2()
