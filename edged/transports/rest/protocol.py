"""uvicorn's HTTP protocol with the bounds that it lacks (RULES 21), and who is at the other end."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from edged.errors import EdgedError, Fault, fault
from edged.transports.rest.limits import Intake, Limits, Room
from edged.transports.rest.listeners import Listener
from edged.transports.rest.peers import Peer, peer_of
from edged.transports.rest.replies import closing

logger = logging.getLogger(__name__)

ENDING: Final = -1  # the step of a connection that only has to close


class Gate:
    """One listener's connections: how many there are, and the rules for each.

    `body_limit` gives the bytes that a body sent to a raw URL may have; `room` is shared by all listeners.
    `count` is told the code of what is refused here, and `client_gone` when a client did not wait for its
    answer.
    """

    def __init__(
        self,
        listener: Listener,
        limits: Limits,
        *,
        body_limit: Callable[[bytes], int],
        room: Room,
        count: Callable[[str], None],
    ) -> None:
        self.listener = listener
        self.limits = limits
        self.body_limit = body_limit
        self.room = room
        self.count = count
        self.open = 0

    def enter(self) -> Fault | None:
        """One connection more; a Fault when it is one too many."""
        self.open += 1
        if self.open <= self.limits.connections:
            return None
        what = f"{self.listener.address} has {self.limits.connections} connections already"
        return fault("queue_full", what, "Close idle connections, or send more requests on each.")

    def leave(self, *, owed: int) -> None:
        self.open -= 1
        if owed:
            self.count("client_gone")

    def peer(self, transport: asyncio.BaseTransport) -> Peer | None:
        return peer_of(transport.get_extra_info("socket")) if self.listener.local else None


def unreadable(error: BaseException | None) -> Fault:
    """Why the parser gave up: a bound that was passed, what the sender wrote, or a bug of ours."""
    cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
    if isinstance(cause, EdgedError):
        return cause.fault
    # uvicorn decodes the path as ASCII, and takes for granted that the URL has one.
    if cause is None or isinstance(cause, (httptools.HttpParserError, UnicodeDecodeError, AttributeError)):
        return fault("bad_input", "the request is not valid HTTP/1.1", "Check it with `curl -v`.")
    logger.error("a request could not be taken in", exc_info=cause)
    return fault("internal", "edged could not take in the request")


class Alarm:
    """A connection's one timer: it rings once for each step that takes too long."""

    __slots__ = ("_handle", "_loop", "_step")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._step = 0

    def set(self, step: int, seconds: float, ring: Callable[[], object]) -> None:
        """Starts for a new `step`; goes on as it is for the step that it was set for."""
        if self._handle is None or step != self._step:
            self.stop()
            self._step = step
            self._handle = self._loop.call_later(seconds, ring)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Connection(HttpToolsProtocol):
    """One client. A refused request is answered in its turn, behind those it was pipelined after."""

    def __init__(self, gate: Gate, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self.gate, self.alarm = gate, Alarm(self.loop)
        self.intake = Intake(gate.limits, gate.body_limit, gate.room)
        self.owed = 0  # answers that the client waits for
        self.refusal: Fault | None = None  # nothing is parsed after it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.app_state["peer"] = self.gate.peer(transport)  # each request's scope has a copy as `state`
        if crowded := self.gate.enter():
            self.refuse(crowded)
            transport.close()
        self.watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gate.leave(owed=self.owed)
        self.intake.forget()
        self.alarm.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.refusal is None:
            self.intake.receiving(len(data))
            super().data_received(data)
            if problem := self.intake.received():
                self.refuse(problem)
            self.watch()

    def on_message_begin(self) -> None:
        self.intake.next()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.intake.header(self.url, self.headers)  # raises what stops the parser, as body() does
        super().on_headers_complete()
        self.intake.next()
        self.owed += 1

    def on_body(self, body: bytes) -> None:
        self.intake.body(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.intake.next()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.owed -= 1
        super().on_response_complete()
        if self.transport.is_closing():
            self.alarm.set(ENDING, self.gate.limits.idle_s, self.transport.abort)  # for a client that does not read
        elif self.refusal and not self.owed:
            self.say(self.refusal)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  -  uvicorn's words; it calls this when the parser stops
        self.refuse(unreadable(sys.exception()))

    def timeout_keep_alive_handler(self) -> None:
        self.transport.abort()  # close() would wait for ever for a client that does not read

    def watch(self) -> None:
        if self.owed and self.intake.between:
            self.alarm.stop()
        elif not self.refusal:
            self.alarm.set(self.intake.step, self.intake.limit_s, self.late)

    def late(self) -> None:
        self.alarm.stop()
        if not self.flow.read_paused:  # else it is us who do not read
            self.refuse(self.intake.late())
        self.watch()

    def refuse(self, problem: Fault) -> None:
        """Takes nothing more from this client, and says why after the answers that it waits for."""
        if self.refusal:
            return
        self.refusal = problem
        self.gate.count(problem.code)
        if self.intake.in_body and not self.cycle.response_complete:
            self.cycle.disconnected = self.cycle.response_complete = True  # its application ends quietly
            self.cycle.message_event.set()
            self.owed -= 1
        if not self.owed:
            self.say(problem)

    def say(self, problem: Fault) -> None:
        self._unset_keepalive_if_required()
        self.flow.resume_reading()  # and drop it: a sender that is reset would not read why
        self.transport.write(closing(problem))
        self.transport.write_eof()
        self.alarm.set(ENDING, self.gate.limits.linger_s, self.transport.abort)
