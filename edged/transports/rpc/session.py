"""What one connection has agreed on: its calls, its table of headers, its settings; and when it is over.

Whoever answers a call writes to the client by it. Errors of the client's protocol are Broken, and the end of the
connection; errors of one call are its answer.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Final

from edged.errors import EdgedError, Fault, fault
from edged.transports.rpc import frames, replies
from edged.transports.rpc.application import RpcGate
from edged.transports.rpc.calls import Call
from edged.transports.rpc.frames import Broken
from edged.transports.rpc.heads import Head, Heads
from edged.transports.rpc.messages import Messages
from edged.transports.rpc.patience import Doing, Patience
from edged.transports.rpc.sender import Sender
from edged.transports.rpc.stream import Stream

logger = logging.getLogger(__name__)


class Session:
    """One client's. `last`: the newest call. `over`: nothing is read any more. `untaken` as in gate.Served."""

    def __init__(self, gate: RpcGate) -> None:
        self._gate = gate
        self._limits = gate.limits
        self._transport: asyncio.Transport | None = None
        self.sender: Final = Sender(self._close)
        self.streams: Final[dict[int, Stream]] = {}
        self.last = 0
        self.over = False
        self.untaken = 0
        self._leaving = False
        self._set = False  # the client has sent its settings, which come first
        self._heads = Heads(gate.limits.header)
        self._block: bytearray | None = None  # headers that go on in further frames
        self._block_of = 0, 0
        self._given_up = 0  # calls without a client, that a model still works on
        self._chatter = 0
        self._patience = Patience(gate.limits)
        self._unsent = 0

    @property
    def takes_data(self) -> bool:
        return self._set and self._block is None

    def begin(self, transport: asyncio.Transport) -> None:
        """The client is there: says what it may do."""
        self._transport = transport
        self.sender.use(transport)
        limits = self._limits
        said = {
            frames.MAX_STREAMS: limits.streams,
            frames.INITIAL_WINDOW: limits.window,
            frames.MAX_FRAME: limits.frame,
        }
        transport.write(frames.settings(said) + frames.window(0, limits.windows - frames.FIRST_WINDOW))

    def guarded(self, work: Callable[[], None]) -> None:
        """One boundary around whatever a client sends (RULES 23)."""
        try:
            work()
        except Broken as error:
            self.end(error.code, fault("bad_input", str(error)))
        except Exception:
            logger.exception("a frame could not be taken in")
            self.end(frames.INTERNAL, fault("internal", "edged could not take in the frame"))

    # --- frames -------------------------------------------------------------------------------------

    def frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Any frame but DATA where data may be. Raises Broken."""
        if not self._set and kind != frames.SETTINGS:
            raise Broken(frames.PROTOCOL, "settings come first")
        if self._block is not None and (kind != frames.CONTINUATION or number != self._block_of[0]):
            raise Broken(frames.PROTOCOL, "headers that end nowhere")
        match kind:
            case frames.HEADERS:
                fragment = frames.unpadded(flags, payload)
                if flags & frames.END_HEADERS:
                    self._headers(number, flags, fragment)
                else:
                    self._block, self._block_of = bytearray(fragment), (number, flags)
            case frames.CONTINUATION:
                self._continued(flags, payload)
            case frames.SETTINGS:
                self._settings(flags, number, payload)
            case frames.WINDOW:
                self._window(number, frames.number(payload))
            case frames.RESET:
                self._reset(number, payload)
            case frames.PING:
                if number or len(payload) != 8:
                    raise Broken(frames.PROTOCOL, "a ping is eight bytes for stream 0")
                self.chatted()
                if not flags & frames.ACK:
                    self.sender.write(frames.frame(frames.PING, frames.ACK, 0, payload))
            case frames.GOAWAY:
                self._leaving = True
                self._close_if_left()
            case frames.PUSH | frames.DATA:
                raise Broken(frames.PROTOCOL, "a frame that has no place here")
            case _:  # priorities, and what only others know
                self.chatted()

    def chatted(self) -> None:
        """A frame that brings no call on. Raises Broken for the one too many."""
        self._chatter += 1
        if self._chatter > self._limits.chatter:
            raise Broken(frames.CALM, "too many frames that bring no call on")

    def _continued(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise Broken(frames.PROTOCOL, "headers that go on without a beginning")
        self.chatted()
        self._block += payload
        if len(self._block) > self._limits.header:
            raise Broken(frames.CALM, f"headers above {self._limits.header} bytes")
        if flags & frames.END_HEADERS:
            block, self._block = bytes(self._block), None
            self._headers(*self._block_of, block)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or (flags & frames.ACK and payload):
            raise Broken(frames.PROTOCOL, "settings of a stream, or in an acknowledgement")
        self.chatted()
        if flags & frames.ACK:
            return
        self._set = True
        for name, value in frames.read_settings(payload):
            if name == frames.INITIAL_WINDOW:
                self.sender.first_window(value, self.streams.values())
            elif name == frames.MAX_FRAME:
                self.sender.frame = value
        self.sender.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self.sender.go_on()

    def _window(self, number: int, more: int) -> None:
        if not number:
            self.chatted()
            if not more:
                raise Broken(frames.PROTOCOL, "a window that does not grow")
            self.sender.more(more)
            return
        if number > self.last:
            raise Broken(frames.PROTOCOL, "a window of a stream that is not open")
        self.chatted()
        stream = self.streams.get(number)
        if stream is None:
            return
        if not more or stream.window + more > frames.LARGEST_WINDOW:
            self.sender.write(frames.reset(number, frames.FLOW_CONTROL if more else frames.PROTOCOL))
            self._forget(stream)
            return
        stream.window += more
        self.sender.go_on()

    def _reset(self, number: int, payload: bytes) -> None:
        frames.number(payload)
        if not number or number > self.last:
            raise Broken(frames.PROTOCOL, "the end of a stream that is not open")
        self.chatted()
        stream = self.streams.get(number)
        if stream is not None:
            if stream.calls:
                self._gate.count("client_gone")
            self._forget(stream)

    # --- calls --------------------------------------------------------------------------------------

    def _headers(self, number: int, flags: int, block: bytes) -> None:
        ends = bool(flags & frames.END_STREAM)
        stream = self.streams.get(number)
        if stream is not None or (number & 1 and number <= self.last):  # trailers, maybe of a call that is over
            self._heads.decode(block)
            if stream is not None:
                if not ends or stream.ended:
                    raise Broken(frames.PROTOCOL, "headers within a stream")
                self.ended(stream)
            return
        if not number & 1:
            raise Broken(frames.PROTOCOL, "a stream that is not the client's to open")
        self.last = number
        head = self._heads.read(block)
        if head is None or self._leaving or len(self.streams) + self._given_up >= self._limits.streams:
            self.chatted()
            self.sender.write(frames.reset(number, frames.PROTOCOL if head is None else frames.REFUSED))
        else:
            self._open(number, head, ends=ends)

    def _open(self, number: int, head: Head, *, ends: bool) -> None:
        limits = self._limits
        try:
            method, most = self._gate.application.admit(head, self._gate.listener.rights)
        except EdgedError as error:
            self.chatted()
            self._gate.count(error.fault.code)
            self.sender.write(replies.refused(number, error.fault) if head.grpc else replies.no_grpc(number))
            if not ends:
                self.sender.write(frames.reset(number, frames.NO_ERROR))
            return
        messages = Messages(most, self._gate.room)
        stream = Stream(number, head, method, messages, self.sender.initial, limits.window)
        self.streams[number] = stream
        if ends:
            self.ended(stream)

    def feed(self, stream: Stream, data: memoryview) -> None:
        """Bytes of a call, which may end any number of messages."""
        if stream.gone:
            return
        try:
            if stream.messages.waits or len(stream.calls) >= self._limits.messages:
                stream.messages.wait(data)
                return
            for message in stream.messages.feed(data):
                self._call(stream, message)
                if len(stream.calls) >= self._limits.messages:
                    stream.messages.wait(data[stream.messages.fed :])
                    return
        except EdgedError as error:
            self._gate.count(error.fault.code)
            self.fail(stream, error.fault)

    def hand_on(self, stream: Stream) -> None:
        """A message that was received in its place, if it is complete."""
        message = None if stream.gone else stream.messages.taken()
        if message is not None:
            self._call(stream, message)

    def give_window(self, stream: Stream) -> None:
        """Lets the client send more of a call, unless too much of it waits."""
        if stream.credit > self._limits.window // 2 and len(stream.calls) < self._limits.messages:
            self.sender.write(frames.window(stream.number, stream.credit))
            stream.receivable += stream.credit
            stream.credit = 0

    def _call(self, stream: Stream, message: bytes) -> None:
        if stream.gone or (stream.asked and not stream.method.streaming):
            return  # whatever follows the one message of a call is nobody's
        stream.asked = True
        self._chatter = max(self._chatter - 8, 0)  # frames that come with a call: windows, pings of its bandwidth
        call = Call(self, stream)
        stream.calls.add(call)
        self._gate.application.take(call, message)

    def ended(self, stream: Stream) -> None:
        """The client sends no more of a call."""
        stream.ended = True
        if stream.gone or stream.calls or stream.messages.waits or stream.ending is not None:
            return
        if stream.messages.partial or not (stream.asked or stream.method.streaming):
            self.fail(stream, fault("bad_input", "the call ended before its message"))
        else:
            self.sender.finish(stream, replies.DONE)

    def controller(self, head: Head) -> str:
        """Who may control the box, for the audit. Raises EdgedError `forbidden`."""
        return self._gate.listener.controller(head.token, self._transport)

    # --- answers ------------------------------------------------------------------------------------

    def answer(self, stream: Stream, call: Call, message: bytes) -> None:
        """The answer to `call`: with it the call ends, but for one that takes several messages."""
        stream.calls.discard(call)
        if stream.gone:
            self._given_up -= 1
        elif not stream.method.streaming:
            self.sender.last(stream, message)
        else:
            self.sender.message(stream, message)
            if not stream.gone:
                self._go_on(stream)

    def fail(self, stream: Stream, problem: Fault, call: Call | None = None) -> None:
        """Ends a call with an error."""
        if call is not None:
            stream.calls.discard(call)
            self._given_up -= stream.gone
        if not stream.gone and stream.ending is None:
            self.sender.finish(stream, replies.trailers(problem))

    def _go_on(self, stream: Stream) -> None:
        """There may be room for what waits of a stream; else it may be at its end."""
        if stream.messages.waits and len(stream.calls) < self._limits.messages:
            asyncio.get_running_loop().call_soon(self.guarded, functools.partial(self._take_up, stream))
        elif stream.ended and not stream.calls:
            self.ended(stream)
        else:
            self.give_window(stream)

    def _take_up(self, stream: Stream) -> None:
        self.feed(stream, memoryview(stream.messages.waited()))
        if not stream.gone:
            self._go_on(stream)

    def _close(self, stream: Stream) -> None:
        """The last of a call was sent."""
        if not stream.ended:
            self.sender.write(frames.reset(stream.number, frames.NO_ERROR))
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        """Whatever still comes of or for it is dropped; a model that works on it counts until it has answered."""
        stream.gone = True
        self._given_up += len(stream.calls)
        stream.messages.close()
        stream.outgoing.clear()
        self.sender.forget(stream)
        self.streams.pop(stream.number, None)
        self._close_if_left()

    # --- the end ------------------------------------------------------------------------------------

    def end(self, code: int, problem: Fault) -> None:
        """Nothing more is taken from this client, nor answered; it is told why, and a while to read it."""
        if self.over:
            return
        self.over = True
        self._gate.count(problem.code)
        self.sender.end(frames.goaway(self.last, code, problem.message))
        if self._transport is not None:
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._transport.resume_reading()  # and drop it: a sender that is reset would not read why

    def leave(self) -> None:
        """Takes no further call; those that are under way are answered, and streams end where they are."""
        if not self._leaving and not self.over:
            self._leaving = True
            self.sender.write(frames.goaway(self.last, frames.NO_ERROR))
        for stream in tuple(self.streams.values()):
            if stream.method.streaming and not stream.calls:
                self.fail(stream, fault("stopping", "the daemon is stopping"))
        self._close_if_left()

    def _close_if_left(self) -> None:
        if self._leaving and not self.streams and not self.over:
            self.over = True
            if self._transport is not None:
                self._transport.close()

    def give_up(self, problem: Fault) -> None:
        for stream in tuple(self.streams.values()):
            self.fail(stream, problem)

    def lost(self) -> None:
        """The client is gone."""
        self.over = True
        self._transport = None
        self.sender.lost()
        if any(stream.calls for stream in self.streams.values()):
            self._gate.count("client_gone")
        for stream in tuple(self.streams.values()):
            self._forget(stream)

    # --- time ---------------------------------------------------------------------------------------

    def sweep(self, now_s: float, *, begun: bool) -> None:
        """Ends what took too long by `now_s`. `begun`: a frame has, or the connection itself."""
        transport = self._transport
        if transport is None:
            return
        self._chatter = 0
        for stream in tuple(self.streams.values()):
            for call in tuple(stream.calls):
                if call.latest_s < now_s:
                    call.fail(fault("deadline", "no outcome came, long after the deadline"))
            if not stream.gone and (problem := stream.late(now_s, self._limits)) is not None:
                self._gate.count(problem.code)
                self.fail(stream, problem)
        unsent = transport.get_write_buffer_size() + sum(stream.unsent for stream in self.streams.values())
        self.untaken = unsent if 0 < self._unsent <= unsent else 0
        self._unsent = unsent
        doing = self._doing(begun=begun)
        if not self._patience.over(now_s, doing, unsent):
            return
        if doing is Doing.REST:
            self.leave()
            return
        if doing is not Doing.END:
            self._gate.count("timeout")
        transport.abort()

    def _doing(self, *, begun: bool) -> Doing:
        if self.over:
            return Doing.END
        if self._unsent:
            return Doing.SEND
        if begun or self._block is not None:
            return Doing.BEGIN
        return Doing.WORK if self.streams else Doing.REST
