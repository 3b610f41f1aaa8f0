"""The HTTP transport as one part: listeners in, one uvicorn Server, a drain with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

import uvicorn

from edged.errors import fault
from edged.transports.rest.app import App, Backend
from edged.transports.rest.limits import Limits, Room
from edged.transports.rest.listeners import Listener
from edged.transports.rest.protocol import Connection, Gate

_GRACE_S: Final = 0.5  # for the answers that the drain's end sends


class Server(uvicorn.Server):
    """uvicorn's Server without its hand on the signals, without its clock, and with a Gate per listener."""

    def __init__(self, config: uvicorn.Config, gates: Sequence[Gate]) -> None:
        super().__init__(config)
        self.gates = gates
        self.listening = asyncio.Event()
        self.leave = asyncio.Event()

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]  # a generator there
        return contextlib.nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002  -  those of the gates
        loop = asyncio.get_running_loop()
        self.servers = []
        for gate in self.gates:
            create = loop.create_unix_server if gate.listener.local else loop.create_server
            connection = functools.partial(Connection, gate, self.config, self.server_state)
            self.servers.append(await create(connection, sock=gate.listener.socket, backlog=self.config.backlog))
        self.started = True
        self.listening.set()

    async def main_loop(self) -> None:
        await self.leave.wait()


class Rest:
    """Serves the Open Inference Protocol on `listeners`, which it closes when it stops."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        backend: Backend,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listeners = listeners
        limits = limits or Limits()
        self._app = App(backend, limits, clock)
        config = uvicorn.Config(
            self._app,
            loop="none",
            http=Connection,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            log_level="error",  # below it, uvicorn notes what any sender does wrong
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,  # the box's clock may be wrong
            timeout_keep_alive=limits.idle_s,  # type: ignore[arg-type]  # goes to loop.call_later as it is
            backlog=128,
        )
        count = functools.partial(backend.refused, "")
        room = Room(max(limits.bodies, self._app.largest_body()))
        self._gates = [
            Gate(listener, limits, body_limit=self._app.body_limit, room=room, count=count) for listener in listeners
        ]
        self._config = config
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when every listener accepts requests."""
        self._server = Server(self._config, self._gates)
        self._serving = asyncio.create_task(self._server.serve([one.socket for one in self._listeners]), name="http")
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait((self._serving, listening), return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._serving.done():
            await self._serving  # raises why
        self._serving.add_done_callback(self._ended)

    async def stop(self, deadline_s: float) -> None:
        """Closes the listeners, waits for the requests under way, and answers `stopping` to what is left."""
        server, serving = self._server, self._serving
        if server is None or serving is None:
            for listener in self._listeners:
                listener.close()
            return
        self._app.stopping = True
        for listener in self._listeners:
            listener.remove()
        server.leave.set()
        await asyncio.wait((serving,), timeout=deadline_s)
        if not serving.done():
            self._app.give_up(fault("stopping", "the daemon stopped before the answer"))
            connections = [one for one in server.server_state.connections if isinstance(one, Connection)]
            for connection in connections:
                if not connection.intake.between:
                    connection.refuse(fault("stopping", "the daemon stopped before the request was complete"))
            await asyncio.wait((serving,), timeout=_GRACE_S)
            for connection in connections:
                connection.transport.abort()
            for task in server.server_state.tasks:
                task.cancel()
        await serving

    def _ended(self, serving: asyncio.Task[None]) -> None:
        """An end that nobody asked for is a bug, which the loop's exception handler hears of."""
        if not serving.cancelled() and serving.exception() is not None:
            context = {"message": "the HTTP server ended", "exception": serving.exception(), "task": serving}
            serving.get_loop().call_exception_handler(context)
