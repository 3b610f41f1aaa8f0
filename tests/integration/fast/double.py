"""A small real double of the daemon behind the fast lane: models that echo, wait, fail; served in a thread."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
import uvloop

from edged import frames
from edged.errors import EdgedError, fault
from edged.frames import Head
from edged.messages import Admission, Answer, Input
from edged.observe.executions import Statistics
from edged.oip.backend import Backend
from edged.oip.listeners import Listener
from edged.oip.regions import Regions
from edged.transports.fast.limits import Limits
from edged.transports.fast.listeners import bind
from edged.transports.fast.server import fast
from tests.integration.http.double import view

MODELS = ("echo", "held", "bug", "full", "lost", "late")


class Frame(NamedTuple):
    head: Head
    name: bytes
    body: bytes

    @property
    def problem(self) -> Any:
        return json.loads(self.body)


class Double:
    """The rest of the daemon. Every input offered is in `offered`, every refusal is counted in `refused`."""

    def __init__(self) -> None:
        self.offered: list[Input] = []
        self.held: list[Input] = []
        self.refused: Counter[tuple[str, str]] = Counter()
        self.views = {name: view(name) for name in MODELS}
        self.views["late"] = view("late", deadline_s=0.05)
        self.views["small"] = msgspec.structs.replace(view("small"), message_limit=1000)

    def backend(self) -> Backend:
        async def control(verb: str, arguments: dict[str, Any], by: str) -> dict[str, Any]:
            raise EdgedError("forbidden", "not here")

        return Backend(
            offer=self.offer,
            view=self.views.get,
            views=lambda: tuple(self.views.values()),
            metrics=lambda: b"",
            status=dict,
            control=control,
            refused=self._count,
            statistics=lambda _view: (Statistics(), None),
            regions=Regions(),
        )

    def _count(self, model: str, code: str) -> None:
        self.refused[model, code] += 1

    def offer(self, item: Input) -> Admission:
        self.offered.append(item)
        if item.model in ("echo", "small"):
            item.reply(Answer(bytes(item.payload), 0, "3"))
        elif item.model == "held":
            self.held.append(item)
        elif item.model == "bug":
            raise ZeroDivisionError("a bug on purpose")
        elif item.model == "full":
            item.reply(fault("queue_full", "the queue of full is full"))
            return Admission.REFUSED
        return Admission.TAKEN  # `lost` and `late` never hear of it again


class Served:
    """A Fast on real sockets in a loop of its own thread; what its loop complains about is in `complaints`."""

    def __init__(
        self, folder: Path, limits: Limits | None = None, *, loop: str = "uvloop", stop_s: float = 2.0
    ) -> None:
        self.double = Double()
        self.path = str(folder / "run" / "fast.sock")
        self.listeners: list[Listener] = bind([self.path, "127.0.0.1:0"])
        self.fast = fast(self.listeners, self.double.backend(), limits=limits)
        self.stop_s = stop_s
        self.complaints: list[dict[str, Any]] = []
        self.loop = uvloop.new_event_loop() if loop == "uvloop" else asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _loop, context: self.complaints.append(context))
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    @property
    def port(self) -> int:
        return int(self.listeners[1].address.rpartition(":")[2])

    def run(self, work: Coroutine[Any, Any, None], timeout_s: float = 10) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def call(self, work: Any, *arguments: Any) -> Any:
        """Calls something in the loop, and gives what it returns."""

        async def called() -> Any:
            return work(*arguments)

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(10)

    def __enter__(self) -> Self:
        self.thread.start()
        self.run(self.fast.start())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.fast.stop(self.stop_s))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        assert self.complaints == []

    def connect(self, timeout_s: float = 10, *, tcp: bool = False) -> socket.socket:
        client = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        client.settimeout(timeout_s)
        try:
            client.connect(("127.0.0.1", self.port) if tcp else self.path)
        except OSError:
            client.close()
            raise
        return client


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
