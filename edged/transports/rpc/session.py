"""What one connection has agreed on: its settings, its table of headers, which calls there are; and when it is over.

Errors of the client's protocol are Broken, and the end of the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from edged.errors import Fault, fault
from edged.transports.rpc import frames
from edged.transports.rpc.application import RpcGate
from edged.transports.rpc.chatter import Chatter
from edged.transports.rpc.exchange import Exchange
from edged.transports.rpc.frames import Broken
from edged.transports.rpc.heads import Heads
from edged.transports.rpc.patience import Doing, Patience

logger = logging.getLogger(__name__)


class Session:
    """One client's. `last`: the newest call. `over`: nothing is read any more."""

    def __init__(self, gate: RpcGate) -> None:
        self._gate = gate
        self._limits = gate.limits
        self._transport: asyncio.Transport | None = None
        self._chatter = Chatter(gate.limits.chatter)
        self.exchange: Final = Exchange(gate, self._chatter, self.guarded, self._close_if_left)
        self.sender: Final = self.exchange.sender
        self.last = 0
        self.over = False
        self._leaving = False
        self._set = False  # the client has sent its settings, which come first
        self._heads = Heads(gate.limits.header)
        self._block: bytearray | None = None  # headers that go on in further frames
        self._block_of = 0, 0
        self._patience = Patience(gate.limits)

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
        self._chatter.hear()

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
                self.sender.first_window(value, self.exchange.streams.values())
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
        stream = self.exchange.streams.get(number)
        if stream is None:
            return
        if not more or stream.window + more > frames.LARGEST_WINDOW:
            self.sender.write(frames.reset(number, frames.FLOW_CONTROL if more else frames.PROTOCOL))
            self.exchange.forget(stream)
            return
        stream.window += more
        self.sender.go_on()

    def _reset(self, number: int, payload: bytes) -> None:
        frames.number(payload)
        if not number or number > self.last:
            raise Broken(frames.PROTOCOL, "the end of a stream that is not open")
        self.chatted()
        stream = self.exchange.streams.get(number)
        if stream is not None:
            self.exchange.gone(stream)

    def _headers(self, number: int, flags: int, block: bytes) -> None:
        ends = bool(flags & frames.END_STREAM)
        stream = self.exchange.streams.get(number)
        if stream is not None or (number & 1 and number <= self.last):  # trailers, maybe of a call that is over
            self._heads.decode(block)
            if stream is None:
                self.chatted()
            else:
                if not ends or stream.ended:
                    raise Broken(frames.PROTOCOL, "headers within a stream")
                self.exchange.ended(stream)
            return
        if not number & 1:
            raise Broken(frames.PROTOCOL, "a stream that is not the client's to open")
        self.last = number
        head = self._heads.read(block)
        if head is None or self._leaving or self.exchange.full:
            self.chatted()
            self.sender.write(frames.reset(number, frames.PROTOCOL if head is None else frames.REFUSED))
        else:
            self.exchange.open(number, head, ends=ends)

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
        self.exchange.leave()
        self._close_if_left()

    def _close_if_left(self) -> None:
        if self._leaving and not self.exchange.streams and not self.over:
            self.over = True
            if self._transport is not None:
                self._transport.close()

    def lost(self) -> None:
        """The client is gone."""
        self.over = True
        self._transport = None
        self.exchange.lost()

    # --- time ---------------------------------------------------------------------------------------

    def sweep(self, now_s: float, *, begun: bool) -> None:
        """Ends what took too long by `now_s`. `begun`: a frame has, or the connection itself."""
        transport = self._transport
        if transport is None:
            return
        self._chatter.forget()
        self.exchange.sweep(now_s)
        unsent = transport.get_write_buffer_size() + sum(stream.unsent for stream in self.exchange)
        taking = self.sender.taking
        taking.look(unsent, self._limits.body_s / self._limits.sweep_s)
        doing = self._doing(begun=begun)
        if not self._patience.over(now_s, doing, taking):
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
        if self.sender.taking.unsent:
            return Doing.SEND
        if begun or self._block is not None:
            return Doing.BEGIN
        return Doing.WORK if self.exchange.streams else Doing.REST
