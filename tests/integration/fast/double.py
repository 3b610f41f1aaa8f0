"""The fast lane on real sockets with the double of the daemon behind it, and frames for tests that write their own."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edged import frames
from edged.frames import Head
from edged.messages import Admission, Answer, Input
from edged.transports.fast.limits import Limits
from edged.transports.fast.listeners import bind
from edged.transports.fast.server import fast
from tests.hosted import Hosted
from tests.integration.http import double


class Frame(NamedTuple):
    head: Head
    name: bytes
    body: bytes

    @property
    def problem(self) -> Any:
        return json.loads(self.body)


class Double(double.Double):
    """Its models answer in the lane's frames: with the body that they got."""

    def __init__(self) -> None:
        super().__init__()
        self.views["small"] = msgspec.structs.replace(double.view("small"), message_limit=1000)

    def offer(self, item: Input) -> Admission:
        if item.model not in ("echo", "small"):
            return super().offer(item)
        self.offered.append(item)
        item.reply(Answer(bytes(item.payload), 0, "3"))
        return Admission.TAKEN


class Served(Hosted):
    """The fast lane, hosted."""

    def __init__(
        self, folder: Path, limits: Limits | None = None, *, loop: str = "uvloop", stop_s: float = 2.0
    ) -> None:
        self.double = Double()
        path = str(folder / "run" / "fast.sock")
        listeners = bind([path, "127.0.0.1:0"])
        self.fast = fast(listeners, self.double.backend(), limits=limits)
        super().__init__(self.fast, listeners, path, loop=loop, stop_s=stop_s)


def infer(model: str, body: bytes, id: int = 1, *, deadline_ms: int = 0, flags: int = 0) -> bytes:
    """A whole infer frame."""
    name = model.encode()
    head = frames.head(frames.INFER, len(name) + len(body), id, name=len(name), deadline_ms=deadline_ms, flags=flags)
    return head + name + body


def placed(model: str, at: int, size: int, room_at: int = 0, room: int = 0, id: int = 1) -> bytes:
    """An infer frame whose tensors are in the ring."""
    return infer(model, struct.pack("<QQQQ", at, size, room_at, room), id, flags=frames.IN_RING)


def receive(client: socket.socket) -> Frame:
    """The next frame, and no byte more."""
    head = frames.read_head(exactly(client, frames.HEAD.size))
    data = exactly(client, head.size)
    return Frame(head, data[: head.name], data[head.name :])


def exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        if not piece:
            raise ConnectionError(f"the connection ended after {len(data)} of {size} bytes")
        data += piece
    return data


def ended(client: socket.socket) -> bool:
    """Whether the other side has closed, and sent nothing more."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
