"""The calls of one connection: their bytes in, messages to the application, answers out.

Errors of one call are its answer. What ends a connection is the session's to see.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Iterator
from typing import Final

from edged.errors import EdgedError, Fault, fault
from edged.oip.courtesy import Courtesy
from edged.transports.rpc import frames, replies
from edged.transports.rpc.application import RpcGate
from edged.transports.rpc.calls import Call
from edged.transports.rpc.chatter import Chatter
from edged.transports.rpc.heads import Head
from edged.transports.rpc.messages import Messages
from edged.transports.rpc.sender import Sender
from edged.transports.rpc.stream import Stream

_STOPPING: Final = fault("stopping", "the daemon is stopping")


class Exchange:
    """`streams` by number, as long as anything is owed to one. `guarded` runs what is done in a turn of its own;
    `fewer` is called when a stream is over.
    """

    def __init__(
        self, gate: RpcGate, chatter: Chatter, guarded: Callable[[Callable[[], None]], None], fewer: Callable[[], None]
    ) -> None:
        self._gate = gate
        self._limits = gate.limits
        self._chatter = chatter
        self._guarded = guarded
        self._fewer = fewer
        self._leaving = False
        self._due: collections.deque[Stream] = collections.deque()  # of what waits and may be taken up
        self._asked = False  # for a turn in which that is done
        self._courtesy = Courtesy(gate.clock, lambda: guarded(self._take_up))
        self._given_up = 0  # calls without a client, that a model still works on
        self.sender: Final = Sender(chatter, self._close, self._go_on)
        self.streams: Final[dict[int, Stream]] = {}

    def __iter__(self) -> Iterator[Stream]:
        """Those that there are now, whatever becomes of them meanwhile."""
        return iter(tuple(self.streams.values()))

    @property
    def full(self) -> bool:
        """The connection may have no further call."""
        return len(self.streams) + self._given_up >= self._limits.streams

    # --- what the client sends ----------------------------------------------------------------------

    def open(self, number: int, head: Head, *, ends: bool) -> None:
        """A call begins. Raises Broken for the one too many of those that are not let in."""
        try:
            method, most = self._gate.application.admit(head, self._gate.listener.rights)
        except EdgedError as error:
            self._chatter.hear()
            self._gate.count(error.fault.code)
            self.sender.write(replies.refused(number, error.fault) if head.grpc else replies.no_grpc(number))
            if not ends:
                self.sender.write(frames.reset(number, frames.NO_ERROR))
            return
        messages = Messages(most, self._gate.room, head.coding)
        stream = Stream(number, head, method, messages, self.sender.initial, self._limits.window)
        self.streams[number] = stream
        if ends:
            self.ended(stream)

    def feed(self, stream: Stream, data: memoryview) -> None:
        """Bytes of a call, which may end any number of messages."""
        if stream.over:
            return
        try:
            if stream.messages.waits or self._busy(stream):
                stream.messages.wait(data)
                return
            for message in stream.messages.feed(data):
                self._call(stream, message)
                if stream.over:  # it was answered at once: what follows would take room that nobody gives back
                    return
                if self._busy(stream):
                    stream.messages.wait(data[stream.messages.fed :])
                    return
        except EdgedError as error:
            self.refuse(stream, error.fault)

    def hand_on(self, stream: Stream) -> None:
        """A message that was received in its place, if it is complete."""
        message = None if stream.over else stream.messages.taken()
        if message is not None:
            self._call(stream, message)

    def give_window(self, stream: Stream) -> None:
        """Lets the client send more of a call, unless something of it waits."""
        if stream.credit > self._limits.window // 2 and not (self._busy(stream) or stream.messages.waits):
            self.sender.write(frames.window(stream.number, stream.credit))
            stream.receivable += stream.credit
            stream.credit = 0

    def ended(self, stream: Stream) -> None:
        """The client sends no more of a call."""
        stream.ended = True
        if stream.over or stream.calls or stream.messages.waits:
            return
        if stream.messages.partial or not (stream.asked or stream.method.streaming):
            self.fail(stream, fault("bad_input", "the call ended before its message"))
        else:
            self.sender.finish(stream, replies.DONE)

    def gone(self, stream: Stream) -> None:
        """The client does not want to hear any more of a call."""
        if stream.calls:
            self._gate.count("client_gone")
        self.forget(stream)

    def _busy(self, stream: Stream) -> bool:
        """The next message has to wait: for the one before, or because so many have no answer, or were not taken."""
        if stream.held > 0 or len(stream.calls) >= self._limits.messages or stream.unsent > self._limits.window:
            return True
        return self._leaving and stream.method.streaming

    def _call(self, stream: Stream, message: bytes) -> None:
        if stream.gone or (stream.asked and not stream.method.streaming):
            return  # whatever follows the one message of a call is nobody's
        stream.asked = True
        self._chatter.called()
        call = Call(self, stream)
        stream.calls.add(call)
        self._gate.application.take(call, message)

    # --- answers ------------------------------------------------------------------------------------

    def controller(self, head: Head) -> str:
        """Who may control the box, for the audit. Raises EdgedError `forbidden`."""
        return self._gate.listener.controller(head.token, self.sender.transport)

    @property
    def near(self) -> bool:
        """The client is on this box."""
        return self._gate.listener.bound.loopback

    def let_go(self, stream: Stream) -> None:
        """What held a stream is over."""
        stream.held -= 1
        if not stream.gone:
            self._go_on(stream)

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
        if not stream.over:
            self.sender.finish(stream, replies.trailers(problem))

    def refuse(self, stream: Stream, problem: Fault) -> None:
        """The same for what the application has not heard of, and so has not counted."""
        self._gate.count(problem.code)
        self.fail(stream, problem)

    def _go_on(self, stream: Stream) -> None:
        """There may be room for what waits of a stream; else it may be at its end."""
        if stream.over:
            return
        if self._leaving and stream.method.streaming and not stream.calls:
            self.fail(stream, _STOPPING)
        elif stream.messages.waits and not self._busy(stream):
            if not stream.due:
                stream.due = True
                self._due.append(stream)
                if not self._asked:
                    self._asked = True
                    asyncio.get_running_loop().call_soon(self._guarded, self._take_up)
        elif stream.ended and not stream.calls:
            self.ended(stream)
        else:
            self.give_window(stream)

    def _take_up(self) -> None:
        """What waited, one message of each stream after the other, for no longer than a turn of the loop may take."""
        self._courtesy.begin()
        while self._due:
            self._courtesy.between()
            if self._courtesy.yields:
                return
            stream = self._due.popleft()
            stream.due = False
            if not (stream.over or self._busy(stream)):
                try:
                    message = stream.messages.take_up()
                    if message is not None:
                        self._call(stream, message)
                except EdgedError as error:
                    self.refuse(stream, error.fault)
            self._go_on(stream)
        self._asked = False

    def _close(self, stream: Stream) -> None:
        """The last of a call was sent."""
        if not stream.ended:
            self.sender.write(frames.reset(stream.number, frames.NO_ERROR))
        self.forget(stream)

    def forget(self, stream: Stream) -> None:
        """Whatever still comes of or for it is dropped; a model that works on it counts until it has answered."""
        stream.gone = True
        self._given_up += len(stream.calls)
        stream.messages.close()
        stream.outgoing.clear()
        self.sender.forget(stream)
        self.streams.pop(stream.number, None)
        self._fewer()

    # --- the end, and time --------------------------------------------------------------------------

    def leave(self) -> None:
        """Streams end where they are, when their answers have left; other calls are answered."""
        self._leaving = True
        for stream in self:
            if stream.method.streaming and not stream.calls:
                self.fail(stream, _STOPPING)

    def give_up(self, problem: Fault) -> None:
        for stream in self:
            self.fail(stream, problem)

    def lost(self) -> None:
        """The client is gone."""
        self.sender.lost()
        if any(stream.calls for stream in self.streams.values()):
            self._gate.count("client_gone")
        for stream in self:
            self.forget(stream)

    def sweep(self, now_s: float) -> None:
        """Ends the calls that took too long by `now_s`."""
        for stream in self:
            for call in tuple(stream.calls):
                if call.latest_s < now_s:
                    call.fail(fault("deadline", "no outcome came, long after the deadline"))
            if not stream.over and (problem := stream.late(now_s, self._limits)) is not None:
                self.refuse(stream, problem)
