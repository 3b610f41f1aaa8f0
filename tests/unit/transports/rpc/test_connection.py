"""One gRPC connection with a transport in memory: what it takes at once, what it keeps, and when it is over."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from edged.listening import Bound
from edged.oip.bodies import Room
from edged.oip.gate import Gate
from edged.oip.listeners import Listener
from edged.oip.rights import Rights
from edged.transports.rpc import frames
from edged.transports.rpc.application import RpcGate
from edged.transports.rpc.calls import Call
from edged.transports.rpc.connection import Connection
from edged.transports.rpc.heads import Head
from edged.transports.rpc.hpack import encode
from edged.transports.rpc.limits import Limits
from edged.transports.rpc.messages import prefixed
from edged.transports.rpc.methods import METHODS, Method
from tests.pipe import Pipe

SERVICE = b"/inference.GRPCInferenceService/"
LARGE = 1 << 30
UNARY, STREAM = b"ModelInfer", b"ModelStreamInfer"


class Desk:
    """Answers each message at once, with so many bytes, or lets it lie."""

    def __init__(self, answer: bytes | None = b"fine") -> None:
        self.calls: list[Call] = []
        self.messages: list[bytes] = []
        self._answer = answer

    def admit(self, head: Head, rights: Rights) -> tuple[Method, int]:
        return METHODS[head.path], 100_000

    def take(self, call: Call, payload: bytes) -> None:
        self.calls.append(call)
        self.messages.append(payload)
        if self._answer is not None:
            call.answer(self._answer)


class Client:
    """A connection seen from the other end; `at` is the time of its clock."""

    def __init__(
        self, desk: Desk, *, window: int = LARGE, limits: Limits | None = None, clock: Callable[[], float] | None = None
    ) -> None:
        self.pipe, self.desk, self.at = Pipe(), desk, 0.0
        self.counted: list[str] = []
        self.room = Room(1 << 26)
        self.gate: RpcGate = Gate(
            Listener(Bound(None, "here", local=True)),  # type: ignore[arg-type]  # no socket: nobody connects
            limits or Limits(),
            desk,
            room=self.room,
            count=self.counted.append,
            emptied=lambda: None,
            clock=clock or (lambda: 0.0),
        )
        self.connection = Connection(self.gate)
        self.connection.connection_made(self.pipe)  # type: ignore[arg-type]  # what a connection uses of one
        self.send(frames.PREFACE, frames.settings({frames.INITIAL_WINDOW: window}), frames.window(0, LARGE))

    def send(self, *parts: bytes) -> None:
        data = b"".join(parts)
        while data:
            assert self.pipe.reading
            place = self.connection.get_buffer(-1)
            size = min(len(place), len(data))
            place[:size] = data[:size]
            del place  # as a transport does
            self.connection.buffer_updated(size)
            data = data[size:]

    def found(self, kind: int) -> list[tuple[int, bytes]]:
        """All frames of a kind so far: stream and payload."""
        at, found = 0, []
        while at < len(self.pipe.written):
            high, low, kinds, _, stream = frames.HEAD.unpack_from(self.pipe.written, at)
            end = at + frames.HEAD_BYTES + (high << 8 | low)
            if kinds == kind:
                found.append((stream, bytes(self.pipe.written[at + frames.HEAD_BYTES : end])))
            at = end
        return found

    @property
    def ended(self) -> str:
        """Why, as the client was told; "" while it goes on."""
        return next((said[8:].decode() for _, said in self.found(frames.GOAWAY)), "")


def head(stream: int, method: bytes = UNARY) -> bytes:
    said = ((b":method", b"POST"), (b":path", SERVICE + method), (b"content-type", b"application/grpc"))
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream, encode(said))


def data(stream: int, message: bytes = b"", *, end: bool = True) -> bytes:
    return frames.frame(frames.DATA, frames.END_STREAM if end else 0, stream, prefixed(message) + message)


def call(stream: int, method: bytes = UNARY) -> bytes:
    return head(stream, method) + data(stream)


def ticking() -> Callable[[], float]:
    """A clock of which each look takes half a millisecond."""
    ticks = itertools.count()
    return lambda: next(ticks) / 2000


@pytest.mark.parametrize("streamed", [False, True])
def test_many_calls_at_once_let_others_have_their_turn(*, streamed: bool) -> None:
    """A read brings 1,800 of them, and each takes some time to answer."""

    async def scenario() -> None:
        desk = Desk()
        client = Client(desk, clock=ticking())
        if streamed:
            client.send(head(1, STREAM), b"".join(data(1, end=False) for _ in range(40)))
        else:
            client.send(b"".join(call(stream) for stream in range(1, 80, 2)))
        answered = [len(desk.messages)]
        assert not client.pipe.reading
        while answered[-1] < 40:
            await asyncio.sleep(0)
            answered.append(len(desk.messages))
        assert max(after - before for before, after in itertools.pairwise(answered)) < 5
        for _ in range(5):
            await asyncio.sleep(0)
        assert client.pipe.reading
        assert client.ended == ""

    asyncio.run(scenario())


def test_what_waited_of_many_streams_is_taken_up_in_turns() -> None:
    async def scenario() -> None:
        desk = Desk(answer=None)
        client = Client(desk, limits=Limits(messages=1), clock=ticking())
        for stream in range(1, 61, 2):
            for part in (head(stream, STREAM), data(stream, end=False), data(stream, b"second", end=False)):
                client.send(part)
        assert len(desk.messages) == 30
        for one in tuple(desk.calls):
            one.answer(b"")
        taken = [30]
        while taken[-1] < 60:
            await asyncio.sleep(0)
            taken.append(len(desk.messages))
        assert max(after - before for before, after in itertools.pairwise(taken)) < 5

    asyncio.run(scenario())


def test_no_more_is_asked_of_a_stream_while_something_of_it_waits() -> None:
    """Or a client would have ever more of it kept, faster than it is taken up."""

    async def scenario() -> None:
        desk = Desk(answer=None)
        client = Client(desk, limits=Limits(messages=1, window=100))
        client.send(head(1, STREAM), *(data(1, bytes(20), end=False) for _ in range(3)))
        desk.calls[0].answer(b"")
        client.send(data(1, bytes(20), end=False))  # before the turn in which the others are taken up
        assert not [stream for stream, _ in client.found(frames.WINDOW) if stream]
        for number in range(1, 4):
            await asyncio.sleep(0)
            desk.calls[number].answer(b"")
        assert [stream for stream, _ in client.found(frames.WINDOW) if stream]
        assert client.room.used == 0

    asyncio.run(scenario())


def test_a_stream_whose_answers_nobody_takes_brings_no_further_ones() -> None:
    """A few bytes may have an answer of megabytes."""

    async def scenario() -> None:
        desk = Desk(answer=bytes(40_000))
        client = Client(desk, window=0, limits=Limits(window=100_000))
        client.send(head(1, STREAM), *(data(1, b"%d" % number, end=False) for number in range(10)))
        assert len(desk.messages) == 3
        client.send(frames.window(1, 50_000))
        await asyncio.sleep(0)
        assert len(desk.messages) == 4
        client.send(frames.window(1, LARGE))
        for _ in range(10):
            await asyncio.sleep(0)
        assert desk.messages == [b"%d" % number for number in range(10)]

    asyncio.run(scenario())


def test_data_beyond_the_window_of_the_connection_ends_it() -> None:
    """Whatever the call's own has room for."""

    async def scenario() -> None:
        client = Client(Desk(), limits=Limits(windows=100_000))
        client.send(head(1), frames.head(100_001, frames.DATA, 0, 1))
        assert client.ended == "more data than the window allows"

    asyncio.run(scenario())


def test_windows_that_large_answers_need_are_no_attack() -> None:
    """Some clients give both windows anew for each frame of 16 KiB, and some only when they have read all of them."""

    async def scenario() -> None:
        client = Client(Desk(answer=bytes(1 << 20)), limits=Limits(chatter=20))
        for stream in range(1, 21, 2):
            client.send(call(stream))
        for _ in range(20 * 64):
            client.send(frames.window(0, 1 << 13))
        assert client.ended == ""
        client.send(frames.window(0, 1) * 10_000)  # but not for ever
        assert client.ended == "too many frames that bring no call on"

    asyncio.run(scenario())


def test_headers_for_calls_that_are_over_bring_none_on() -> None:
    async def scenario() -> None:
        client = Client(Desk(), limits=Limits(chatter=20))
        client.send(call(1))
        client.send(head(1) * 30)
        assert client.ended == "too many frames that bring no call on"

    asyncio.run(scenario())


def test_a_stream_ends_where_it_is_when_the_daemon_stops() -> None:
    """One that sends on and on would keep the daemon until its patience ends."""

    async def scenario() -> None:
        desk = Desk(answer=None)
        client = Client(desk)
        client.send(head(1, STREAM), data(1, end=False), data(1, end=False))
        client.connection.leave()
        client.send(data(1, end=False))
        assert len(desk.messages) == 2
        desk.calls[0].answer(b"one")
        desk.calls[1].answer(b"two")
        assert client.pipe.end() == "closed"
        assert [said[-3:] for _, said in client.found(frames.DATA)] == [b"one", b"two"]
        assert b"stopping" in client.found(frames.HEADERS)[-1][1]
        client.connection.connection_lost(None)
        assert client.room.used == 0

    asyncio.run(scenario())


def test_nothing_is_taken_of_a_call_whose_end_waits_for_its_client() -> None:
    """What follows a message that is too large is its rest, and no message."""

    async def scenario() -> None:
        desk = Desk()
        client = Client(desk, window=0)
        client.send(head(1, STREAM), data(1, b"answered", end=False))
        client.send(frames.frame(frames.DATA, 0, 1, b"\0" + (200_000).to_bytes(4, "big")))
        client.send(data(1, b"part of it", end=False))
        assert desk.messages == [b"answered"]
        for now_s in range(0, 20, 5):
            client.connection.sweep(now_s)
        assert client.counted == ["too_large"]

    asyncio.run(scenario())


def test_an_answer_of_many_frames_has_no_tiny_ones() -> None:
    async def scenario() -> None:
        client = Client(Desk(answer=bytes(3 * 16384 - 5)))
        client.send(call(1))
        assert [len(said) for _, said in client.found(frames.DATA)] == [16384] * 3

    asyncio.run(scenario())


def test_a_message_that_comes_byte_by_byte_has_its_time() -> None:
    async def scenario() -> None:
        client = Client(Desk(), limits=Limits(body_s=30.0, stall_s=5.0))
        client.send(head(1), frames.frame(frames.DATA, 0, 1, b"\0" + (90_000).to_bytes(4, "big")))
        for now_s in range(0, 30, 3):
            client.send(frames.frame(frames.DATA, 0, 1, b"x"))
            client.connection.sweep(now_s)
        assert client.counted == []
        client.send(frames.frame(frames.DATA, 0, 1, b"x"))
        client.connection.sweep(30)
        assert client.counted == ["timeout"]
        assert b"not complete after 30 s" in client.found(frames.HEADERS)[-1][1]
        assert client.room.used == 0

    asyncio.run(scenario())
