"""A transport that is served in a loop of its own thread, for tests that speak to it from theirs."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import uvloop

from edged.oip.listeners import Listener


class Serving(Protocol):
    """What a transport is to the daemon."""

    async def start(self) -> None: ...

    async def stop(self, deadline_s: float) -> None: ...


class Hosted:
    """`listeners`: the UNIX socket at `path` first. `complaints`: what the loop has to say; a test fails of any."""

    def __init__(
        self, serving: Serving, listeners: Sequence[Listener], path: str, *, loop: str = "uvloop", stop_s: float = 2.0
    ) -> None:
        self.serving = serving
        self.listeners = listeners
        self.path = path
        self.stop_s = stop_s
        self.complaints: list[dict[str, Any]] = []
        self.loop = uvloop.new_event_loop() if loop == "uvloop" else asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _loop, context: self.complaints.append(context))
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    @property
    def port(self) -> int:
        return self.port_of(1)

    def port_of(self, index: int) -> int:
        """The TCP port of a listener; 0 is the UNIX socket."""
        return int(self.listeners[index].address.rpartition(":")[2])

    def run(self, work: Coroutine[Any, Any, None], timeout_s: float = 10) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def call(self, work: Any, *arguments: Any) -> Any:
        """Calls something in the loop, and gives what it returns."""

        async def called() -> Any:
            return work(*arguments)

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(10)

    def __enter__(self) -> Self:
        self.thread.start()
        self.run(self.serving.start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.run(self.serving.stop(self.stop_s))
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
