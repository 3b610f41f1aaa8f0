"""One gRPC client: HTTP/2's frames in, out of each read and each message (RFC 9113, RULES 21).

Nothing here waits. What a client can make edged keep is bounded by the windows that it is given, by the room that all
clients share, and by how many calls it may have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from edged.errors import Fault
from edged.oip.courtesy import Courtesy
from edged.taking import Taking
from edged.transports.rpc import frames, replies
from edged.transports.rpc.application import RpcGate
from edged.transports.rpc.frames import Broken
from edged.transports.rpc.session import Session
from edged.transports.rpc.stream import Stream

_DIRECT: Final = 4096  # bytes of a message that are worth a read of their own


class Connection(asyncio.BufferedProtocol):
    """A connection takes calls until it is told to leave, or its client breaks the protocol."""

    def __init__(self, gate: RpcGate) -> None:
        self._gate = gate
        self._limits = gate.limits
        self._session = Session(gate)
        self._exchange = self._session.exchange
        self._transport: asyncio.Transport | None = None
        self._held = b""  # what was read of a frame that is not complete
        self._greeted = False
        self._paused = False
        self._left = 0  # bytes of a DATA frame that are still to come
        self._padding = 0  # so many of them, at its end
        self._receiver: Stream | None = None  # whose they are
        self._ends = False  # whether they are the last of it
        self._in_place = False  # the next read goes into a message
        self._read = False  # it did, and the message is not handed on yet
        self._receivable = gate.limits.windows
        self._credit = 0  # bytes that the client may send anew, once it is told so
        self._courtesy = Courtesy(gate.clock, self._go_on)

    @property
    def taking(self) -> Taking:
        return self._session.sender.taking

    # --- what asyncio calls -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream's always is
        self._transport = transport
        crowded = self._gate.enter(self)
        if self._gate.crowded:
            transport.abort()
            return
        self._session.begin(transport)
        if crowded is not None:
            self._session.end(frames.CALM, crowded)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  -  asyncio's name for what it would like
        self._taken()
        stream = self._receiver
        if stream is not None and self._left >= _DIRECT and not self._padding:
            rest = stream.messages.rest()
            if rest is not None:
                self._in_place = True
                return rest[: self._left]
        self._in_place = False
        return self._gate.scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self._session.over:
            return
        if self._in_place:
            self._put(nbytes)
        elif self._held:
            data = self._held + self._gate.scratch[:nbytes]
            self._held = b""
            self._guarded(self._parse, memoryview(data))
        else:
            self._guarded(self._parse, self._gate.scratch[:nbytes])

    def eof_received(self) -> None:
        """Whoever ends its side is taken as gone: None closes the transport."""

    def pause_writing(self) -> None:
        self._session.sender.writable = False

    def resume_writing(self) -> None:
        self._session.sender.writable = True
        self._session.sender.go_on()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  -  whatever it was, it is over
        self._transport = self._receiver = None
        self._session.lost()
        self._gate.leave(self)

    # --- what the gate and the doors call -----------------------------------------------------------

    def sweep(self, now_s: float) -> None:
        """Ends what took too long by `now_s`; called every `sweep_s`."""
        begun = bool(self._held) and not self._paused  # else it is us who do not read
        self._session.sweep(now_s, begun=begun or not self._greeted)

    def leave(self) -> None:
        """Takes no further call; the connection ends when those under way are answered."""
        self._session.leave()

    def give_up(self, problem: Fault) -> None:
        """Answers everything that is owed or under way with `problem`."""
        self._exchange.give_up(problem)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- bytes to frames ----------------------------------------------------------------------------

    def _guarded(self, work: Callable[[memoryview], None], data: memoryview) -> None:
        self._session.guarded(lambda: work(data))

    def _parse(self, data: memoryview) -> None:
        """Takes frames from `data`, as far as they go; holds what is left."""
        at, stop = 0 if self._greeted else self._greet(data), len(data)
        self._courtesy.begin()
        while at < stop and self._greeted and not self._session.over:
            self._courtesy.between()  # 64 KiB of calls that are answered at once take a third of a second
            if self._waits():
                self._pause()
                break
            if self._left:
                size = min(self._left, stop - at)
                self._receive(data[at : at + size])
                at += size
                continue
            if stop - at < frames.HEAD_BYTES:
                break
            high, low, kind, flags, number = frames.HEAD.unpack_from(data, at)
            size, number = high << 8 | low, number & 0x7FFFFFFF
            start = at + frames.HEAD_BYTES
            if kind == frames.DATA and self._session.takes_data:
                if flags & frames.PADDED and start == stop:
                    break
                at = start + self._begin(size, flags, number, data[start : start + 1])
                continue
            if size > max(self._limits.header, frames.FIRST_FRAME):
                raise Broken(frames.FRAME_SIZE, f"a frame of {size} bytes that is no data")
            if stop - start < size:
                break
            self._session.frame(kind, flags, number, bytes(data[start : start + size]))
            at = start + size
        if at < stop and not self._session.over:
            self._held = bytes(data[at:])

    def _greet(self, data: memoryview) -> int:
        start = bytes(data[: len(frames.PREFACE)])
        if not frames.PREFACE.startswith(start):
            if self._transport is not None:
                self._transport.write(replies.NO_HTTP2)
            raise Broken(frames.PROTOCOL, "no HTTP/2 begins so")
        self._greeted = len(start) == len(frames.PREFACE)
        return len(start) if self._greeted else 0

    def _waits(self) -> bool:
        """Whether the next frame has to wait: for the client to take its answers, or for others to have their turn."""
        return not self._session.sender.writable or self._courtesy.yields

    def _go_on(self) -> None:
        """Takes what was left lying, then reads again, unless something else has to be waited for."""
        if not self._paused or self._waits() or self._transport is None or self._session.over:
            return
        self._paused = False
        self._transport.resume_reading()
        held, self._held = self._held, b""
        self._guarded(self._parse, memoryview(held))

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    # --- frames of data -----------------------------------------------------------------------------

    def _begin(self, size: int, flags: int, number: int, first: memoryview) -> int:
        """The head of a DATA frame; returns how many bytes of its payload were taken with it."""
        if size > self._limits.frame:
            raise Broken(frames.FRAME_SIZE, f"a frame of {size} bytes")
        if not number & 1 or number > self._session.last:
            raise Broken(frames.PROTOCOL, "data of a stream that is not open")
        stream = self._exchange.streams.get(number)
        self._receivable -= size
        self._credit += size
        if stream is not None:
            stream.receivable -= size
            stream.credit += size
        if self._receivable < 0 or (stream is not None and stream.receivable < 0):
            raise Broken(frames.FLOW_CONTROL, "more data than the window allows")
        if stream is not None and stream.ended:
            raise Broken(frames.STREAM_CLOSED, "data behind the end of its stream")
        padding = 0
        if flags & frames.PADDED:
            padding = first[0] + 1 if size else 0
            if not size or padding > size:
                raise Broken(frames.PROTOCOL, "more padding than frame")
        self._receiver, self._ends = stream, bool(flags & frames.END_STREAM)
        self._padding = max(padding - 1, 0)
        self._left = size - (1 if padding else 0)
        if not self._left:
            self._session.chatted()
            self._frame_over()
        return 1 if padding else 0

    def _receive(self, data: memoryview) -> None:
        """Bytes of the DATA frame under way."""
        self._left -= len(data)
        content = data[: max(len(data) + self._left - self._padding, 0)] if self._padding else data
        if self._receiver is not None and len(content):
            self._exchange.feed(self._receiver, content)
        if not self._left:
            self._frame_over()

    def _put(self, size: int) -> None:
        """So many bytes were read to where they belong. The read has to let go of them before they are handed on."""
        self._left -= size
        if self._receiver is not None:
            self._receiver.messages.put(size)
        if not self._read:
            self._read = True
            asyncio.get_running_loop().call_soon(self._taken)

    def _taken(self) -> None:
        """Hands on a message that was read in its place, if that is all of it."""
        if not self._read:
            return
        self._read = False
        if self._receiver is not None:
            self._exchange.hand_on(self._receiver)
        if not self._left:
            self._session.guarded(self._frame_over)

    def _frame_over(self) -> None:
        """Tells the client that it may send as much again, and whoever waits that there is no more."""
        stream, self._receiver = self._receiver, None
        session, limits = self._session, self._limits
        if self._credit > limits.windows // 2:
            session.sender.write(frames.window(0, self._credit))
            self._receivable += self._credit
            self._credit = 0
        if stream is None or stream.gone:
            return
        if self._ends:
            self._exchange.ended(stream)
        else:
            self._exchange.give_window(stream)
