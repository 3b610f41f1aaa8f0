"""What goes to one client, within the windows that it gives: HEADERS, messages in frames of DATA, trailers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from edged.taking import Taking
from edged.transports.rpc import frames, replies
from edged.transports.rpc.chatter import Chatter
from edged.transports.rpc.frames import END_HEADERS, END_STREAM, HEAD, Broken
from edged.transports.rpc.messages import PREFIX, prefixed
from edged.transports.rpc.stream import Stream

_JOINED: Final = 16 * 1024  # bytes up to which copying a message is cheaper than one part more to write
_LEAD: Final = len(replies.RESPONSE) >> 8, len(replies.RESPONSE) & 0xFF, frames.HEADERS, END_HEADERS
_TAIL: Final = len(replies.DONE) >> 8, len(replies.DONE) & 0xFF, frames.HEADERS, END_HEADERS | END_STREAM


class Sender:
    """`done` is told of a stream of which the last was sent, `took` of one that waited and sent more. `initial` is the
    window of a new stream, `frame` the largest frame that the client takes. While not `writable` messages wait here.
    `transport` is None at the end.
    """

    def __init__(self, chatter: Chatter, done: Callable[[Stream], None], took: Callable[[Stream], None]) -> None:
        self._chatter = chatter
        self._done = done
        self._took = took
        self.transport: asyncio.Transport | None = None
        self._window = frames.FIRST_WINDOW
        self._blocked: dict[int, Stream] = {}
        self.initial = frames.FIRST_WINDOW
        self.frame = frames.FIRST_FRAME
        self.writable = True
        self.taking: Final = Taking()

    def use(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def lost(self) -> None:
        self.transport = None
        self._blocked.clear()

    def write(self, data: bytes) -> None:
        """A frame that needs no window."""
        if self.transport is not None:
            self.taking.wrote += len(data)
            self.transport.write(data)

    def end(self, data: bytes) -> None:
        """The last that is said: a write behind the end would raise into whoever settles a call."""
        self.write(data)
        self.lost()

    def last(self, stream: Stream, message: bytes) -> None:
        """The one message of a call, and its end."""
        size = len(message) + PREFIX
        if size > min(self._window, stream.window, self.frame, _JOINED) or not self.writable or stream.begun:
            self.message(stream, message)
            self.finish(stream, replies.DONE)
            return
        self._window -= size
        number = stream.number
        self.write(
            b"".join(
                (
                    HEAD.pack(*_LEAD, number),
                    replies.RESPONSE,
                    HEAD.pack(size >> 8, size & 0xFF, frames.DATA, 0, number),
                    prefixed(message),
                    message,
                    HEAD.pack(*_TAIL, number),
                    replies.DONE,
                )
            )
        )
        self._done(stream)

    def message(self, stream: Stream, message: bytes) -> None:
        """A message, now or as the windows allow."""
        self._lead(stream)
        self.taking.wrote += len(message)
        stream.unsent += PREFIX + len(message)
        if len(message) <= _JOINED - PREFIX:
            stream.outgoing.append(memoryview(prefixed(message) + message))
        else:
            lead = _JOINED - PREFIX  # with its prefix as long as most clients' frames
            stream.outgoing += (memoryview(prefixed(message) + message[:lead]), memoryview(message)[lead:])
        self._pump(stream)

    def finish(self, stream: Stream, trailers: bytes) -> None:
        """The end of a call, behind what still waits of it."""
        stream.ending = trailers
        if not stream.outgoing:
            self._end(stream)

    def forget(self, stream: Stream) -> None:
        self._blocked.pop(stream.number, None)

    # --- windows ------------------------------------------------------------------------------------

    def more(self, size: int) -> None:
        """The client takes more on all streams together. Raises Broken."""
        self._window += size
        if self._window > frames.LARGEST_WINDOW:
            raise Broken(frames.FLOW_CONTROL, "a window above 2^31 - 1")
        self.go_on()

    def first_window(self, size: int, streams: Iterable[Stream]) -> None:
        """Another window for new streams, and by as much for those that are there (6.9.2). Raises Broken."""
        more, self.initial = size - self.initial, size
        for stream in streams:
            stream.window += more
            if stream.window > frames.LARGEST_WINDOW:
                raise Broken(frames.FLOW_CONTROL, "a window above 2^31 - 1")

    def go_on(self) -> None:
        """Sends what waited and now may be sent."""
        for stream in tuple(self._blocked.values()):
            if self._window <= 0 or not self.writable:
                return
            self._pump(stream)
            if not stream.gone:
                self._took(stream)

    def _pump(self, stream: Stream) -> None:
        parts: list[bytes | memoryview] = []
        outgoing, unsent = stream.outgoing, stream.unsent
        while outgoing and self.writable:
            view = outgoing[0]
            size = min(len(view), self._window, stream.window, self.frame)
            if size <= 0:
                break
            self._window -= size
            stream.window -= size
            stream.unsent -= size
            parts += (frames.head(size, frames.DATA, 0, stream.number), view[:size])
            if size == len(view):
                outgoing.popleft()
            else:
                outgoing[0] = view[size:]
        self._chatter.sent(unsent - stream.unsent)
        if parts and self.transport is not None:
            self.transport.writelines(parts)
        self._blocked.pop(stream.number, None)
        if outgoing:
            self._blocked[stream.number] = stream  # behind the others that wait
        elif stream.ending is not None:
            self._end(stream)

    def _lead(self, stream: Stream) -> None:
        if not stream.begun:
            stream.begun = True
            self.write(HEAD.pack(*_LEAD, stream.number) + replies.RESPONSE)

    def _end(self, stream: Stream) -> None:
        block = stream.ending or replies.DONE
        if not stream.begun:
            block = replies.RESPONSE + block
        self.write(frames.frame(frames.HEADERS, END_HEADERS | END_STREAM, stream.number, block))
        self._done(stream)
