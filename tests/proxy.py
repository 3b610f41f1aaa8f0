"""A TCP proxy between a box and its broker that is as bad as a link can be: slow, and cut from time to time.

    async with Proxy(broker.port, rate=4e6, cut=0.3, seed=1) as proxy:
        ... proxy.url, proxy.cuts, proxy.bytes_of(b"-ota") ...
    with proxied(broker.port, rate=4e6) as proxy:  # in a thread of its own

Each second every connection is reset with probability `cut`, all at once, by a generator of its own. `rate` is in
bytes a second to the clients, for all of them together. `watch(connection, data, up)` is told what passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Self

_PIECE: Final = 16 * 1024


class Connection:
    """One client's. `first` is what it said first, a CONNECT with its client id; counts in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.first = b""
        self.up = 0
        self.down = 0


class Proxy:
    def __init__(
        self,
        port: int,
        *,
        rate: float | None = None,
        cut: float = 0.0,
        seed: int = 0,
        period_s: float = 1.0,
        watch: Callable[[Connection, bytes, bool], None] = lambda _connection, _data, _up: None,
    ) -> None:
        self._watch = watch
        self.cuts = 0
        self.cutting = True
        self.connections: list[Connection] = []
        self._port = port
        self._rate = rate
        self._cut = cut
        self._chance = random.Random(seed)  # noqa: S311 - the same cuts each time
        self._period_s = period_s
        self._free_s = 0.0
        self._open: dict[Connection, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def bytes_of(self, client: bytes) -> int:
        """What went to clients of which the CONNECT has this in it."""
        return sum(one.down for one in self.connections if client in one.first)

    def cut_all(self) -> None:
        """Resets every connection, on both sides."""
        self.cuts += bool(self._open)
        for connection, broker in list(self._open.items()):
            connection.writer.transport.abort()
            broker.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._tasks.add(asyncio.create_task(self._fate()))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _fate(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            if self._chance.random() < self._cut and self.cutting:
                self.cut_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self.connections.append(connection)
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self._open[connection] = to_broker
        tasks = [
            asyncio.create_task(self._upward(connection, to_broker)),
            asyncio.create_task(self._downward(connection, from_broker)),
        ]
        self._tasks.update(tasks)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        del self._open[connection]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.difference_update(tasks)
        writer.close()
        to_broker.close()

    async def _upward(self, connection: Connection, broker: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await connection.reader.read(_PIECE):
                connection.first = connection.first or data
                connection.up += len(data)
                self._watch(connection, data, True)
                broker.write(data)
                await broker.drain()

    async def _downward(self, connection: Connection, broker: asyncio.StreamReader) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while data := await broker.read(_PIECE):
                if self._rate is not None:
                    self._free_s = max(self._free_s, loop.time()) + len(data) / self._rate
                    await asyncio.sleep(self._free_s - loop.time())
                connection.down += len(data)
                self._watch(connection, data, False)
                connection.writer.write(data)
                await connection.writer.drain()


@contextlib.contextmanager
def proxied(port: int, **settings: Any) -> Iterator[Proxy]:
    """A proxy on a loop of its own, for tests that have none."""
    proxy, ready, leave = Proxy(port, **settings), threading.Event(), threading.Event()

    async def serve() -> None:
        async with proxy:
            ready.set()
            await asyncio.to_thread(leave.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield proxy
    finally:
        leave.set()
        thread.join(10)
