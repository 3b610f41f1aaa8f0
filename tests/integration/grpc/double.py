"""The gRPC transport on real sockets with the double of the daemon behind it, and a client that speaks raw frames."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from edged import protobuf
from edged.config.schema import Sockets
from edged.messages import GRPC, Admission, Answer, Input
from edged.transports.rpc import frames
from edged.transports.rpc.hpack import Decoder, encode
from edged.transports.rpc.limits import Limits
from edged.transports.rpc.messages import prefixed
from edged.transports.rpc.server import bind, rpc
from tests.hosted import Hosted
from tests.integration.http import double

SERVICE = b"/inference.GRPCInferenceService/"


def echo(item: Input) -> Answer:
    """A ModelInferResponse with the request's id, and its raw tensors as they came."""
    parts = []
    for number, value in protobuf.fields(memoryview(item.payload)):
        if number in (3, 7):
            parts.append(protobuf.put({3: 3, 7: 6}[number], bytes(protobuf.message(value))))
    return Answer(protobuf.put(1, item.model.encode()) + b"".join(parts), 0, "3")


class Double(double.Double):
    """Its models answer in protobuf."""

    def offer(self, item: Input) -> Admission:
        assert item.form == GRPC
        if item.model not in ("echo", "slow"):
            return super().offer(item)
        self.offered.append(item)
        if item.model == "echo":
            item.reply(echo(item))
        else:
            asyncio.get_running_loop().call_later(0.2, item.reply, echo(item))
        return Admission.TAKEN


class Served(Hosted):
    """gRPC, hosted."""

    def __init__(
        self, folder: Path, limits: Limits | None = None, *, loop: str = "uvloop", sockets: Sockets | None = None
    ) -> None:
        self.double = Double()
        path = str(folder / "grpc.sock")
        sockets = sockets or Sockets(grpc=("127.0.0.1:0",))
        listeners = bind(msgspec.structs.replace(sockets, grpc=(f"unix:{path}", *sockets.grpc)))
        self.rpc = rpc(listeners, self.double.backend(), limits=limits)
        super().__init__(self.rpc, listeners, path, loop=loop)

    def client(self, *, settings: dict[int, int] | None = None) -> Client:
        return Client(self.path, settings or {})


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class Outcome(NamedTuple):
    """How a call ended: gRPC's status, its details, and the messages that came."""

    status: int
    details: str
    code: str
    messages: list[bytes]


def infer(model: str = "echo", id: str = "", raw: bytes = b"") -> bytes:
    """A ModelInferRequest."""
    return protobuf.put(1, model.encode()) + protobuf.put(3, id.encode()) + protobuf.put(7, raw)


def headers(method: bytes = b"ModelInfer", *more: tuple[bytes, bytes]) -> bytes:
    path = method if method.startswith(b"/") else SERVICE + method
    said = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b"content-type", b"application/grpc"))
    return encode((*said, *more))


class Client:
    """Frames over a socket, as they are written; without `settings` those are the test's to send, or not."""

    def __init__(self, path: str, settings: dict[int, int] | None) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self._decoder = Decoder(65536)
        self._data: dict[int, bytes] = {}
        self._trailers: dict[int, dict[bytes, bytes]] = {}
        self.seen: list[Frame] = []
        self.send(frames.PREFACE, b"" if settings is None else frames.settings(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def open(self, stream: int, method: bytes = b"ModelInfer", *more: tuple[bytes, bytes]) -> None:
        self.send(frames.frame(frames.HEADERS, frames.END_HEADERS, stream, headers(method, *more)))

    def data(self, stream: int, message: bytes, *, end: bool = True, mark: int = 0) -> None:
        """A message; `mark` 1: that is compressed."""
        flags = frames.END_STREAM if end else 0
        self.send(frames.frame(frames.DATA, flags, stream, bytes((mark,)) + prefixed(message)[1:] + message))

    def call(self, stream: int, method: bytes = b"ModelInfer", message: bytes = b"") -> Outcome:
        self.open(stream, method)
        self.data(stream, message)
        return self.outcome(stream)

    def frame(self) -> Frame:
        """The next one; ConnectionError at the end."""
        high, low, kind, flags, stream = frames.HEAD.unpack(self._read(frames.HEAD_BYTES))
        found = Frame(kind, flags, stream, self._read(high << 8 | low))
        self.seen.append(found)
        return found

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionError("the connection ended")
            data += piece
        return data

    def until(self, kind: int) -> Frame:
        """The next frame of a kind, those before it taken in."""
        while True:
            found = self.frame()
            if found.kind == frames.DATA:
                self._data[found.stream] = self._data.get(found.stream, b"") + found.payload
            elif found.kind == frames.HEADERS:
                said = self._trailers.setdefault(found.stream, {})
                said.update(self._decoder.decode(found.payload))
            if found.kind == kind:
                return found

    def outcome(self, stream: int) -> Outcome:
        """How a call has ended, once it has."""
        while b"grpc-status" not in self._trailers.get(stream, {}):
            self.until(frames.HEADERS)
        said, data, messages = self._trailers[stream], self._data.get(stream, b""), []
        while data:
            size = struct.unpack(">xI", data[:5])[0]
            messages.append(data[5 : 5 + size])
            data = data[5 + size :]
        details = said.get(b"grpc-message", b"").decode()
        return Outcome(int(said[b"grpc-status"]), details, said.get(b"edged-code", b"").decode(), messages)

    def ended(self) -> tuple[int, str]:
        """The code and the words of the GOAWAY with which the server ends the connection."""
        last = self.until(frames.GOAWAY).payload
        with contextlib.suppress(ConnectionError):
            while True:
                self.frame()
        return struct.unpack(">I", last[4:8])[0], last[8:].decode()
