"""One connection with a transport in memory and a clock of its own: order, patience and room."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from edged.errors import fault
from edged.listening import Bound
from edged.oip.bodies import Room
from edged.oip.gate import Gate
from edged.oip.listeners import Listener
from edged.transports.rest import replies
from edged.transports.rest.application import HttpGate
from edged.transports.rest.connection import Connection
from edged.transports.rest.heads import Head
from edged.transports.rest.limits import Limits
from edged.transports.rest.turns import Turn
from tests.pipe import Pipe

LIMITS = Limits(header=200, pipeline=3)
GET = b"GET /v2 HTTP/1.1\r\n\r\n"
ROLLBACK = b"POST /edged/models/a/rollback HTTP/1.1\r\n\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    return b"".join(
        [b"POST /v2/models/a/infer HTTP/1.1\r\n", *headers, b"Content-Length: %d\r\n\r\n" % len(body), body]
    )


class Desk:
    """Takes requests and lets them lie until the test answers them."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.bodies: list[bytes] = []
        self.at_once = False

    def admit(self, head: Head) -> int:
        return 100_000

    def take(self, head: Head, payload: bytes, turn: Turn, check_control: Callable[[Head], str]) -> None:
        self.turns.append(turn)
        self.bodies.append(payload)
        if head.url == b"/bug":
            raise ZeroDivisionError("a bug on purpose")
        if head.method == "HEAD" or self.at_once:
            turn.answer(replies.json(200, "at once"))


class Client:
    """A connection seen from the other end; `at` is the time of its clock."""

    def __init__(self, limits: Limits = LIMITS, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.pipe, self.desk = Pipe(), Desk()
        self.counted: list[str] = []
        self.gate: HttpGate = Gate(
            Listener(Bound(None, "here", local=True)),  # type: ignore[arg-type]  # no socket: nobody connects
            limits,
            self.desk,
            room=Room(200_000),
            count=self.counted.append,
            emptied=lambda: None,
            clock=clock,
        )
        self.connection = Connection(self.gate)
        self.connection.connection_made(self.pipe)  # type: ignore[arg-type]  # what a connection uses of one
        self.at = 0.0

    def send(self, data: bytes) -> None:
        while data:
            assert self.pipe.reading
            room = self.connection.get_buffer(-1)
            size = min(len(room), len(data))
            room[:size] = data[:size]
            del room  # as a transport does
            self.connection.buffer_updated(size)
            data = data[size:]

    def wait(self, seconds: float) -> None:
        """Lets time pass, with a sweep every half second."""
        until = self.at + seconds
        while self.at < until:
            self.at += 0.5
            self.connection.sweep(self.at)

    def statuses(self) -> list[int]:
        return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d+) ", self.pipe.written)]

    def answer(self, index: int, value: Any = "fine") -> None:
        self.desk.turns[index].answer(replies.json(200, value))


def run(scenario: Callable[[Client], None], limits: Limits = LIMITS) -> None:
    """In a loop, which the gate's clock and a body's end need."""

    async def inside() -> None:
        client = Client(limits)
        scenario(client)
        client.connection.connection_lost(None)
        assert client.gate.room.used == 0
        assert client.gate.open == 0

    asyncio.run(inside())


def test_answers_leave_in_the_order_of_their_requests() -> None:
    def scenario(client: Client) -> None:
        client.send(post(b"a") + post(b"b") + post(b"c"))
        assert client.desk.bodies == [b"a", b"b", b"c"]
        client.answer(2, "c")
        client.answer(1, "b")
        assert not client.pipe.written
        client.answer(0, "a")
        assert re.findall(rb'"(.)"', client.pipe.written) == [b"a", b"b", b"c"]
        client.answer(0, "again")  # the first one counts
        assert len(client.statuses()) == 3

    run(scenario)


def test_more_than_the_pipeline_takes_is_left_unread() -> None:
    def scenario(client: Client) -> None:
        client.send(b"".join(post(b"%d" % index) for index in range(5)) + GET[:9])
        assert client.desk.bodies == [b"0", b"1", b"2"]
        assert not client.pipe.reading
        client.wait(20)  # it is us who do not read
        client.answer(1)
        assert len(client.desk.bodies) == 3
        client.answer(0)
        assert client.desk.bodies == [b"0", b"1", b"2", b"3", b"4"]
        assert not client.pipe.reading
        client.answer(2)
        assert client.pipe.reading
        client.send(GET[9:])
        assert len(client.desk.turns) == 6

    run(scenario)


def test_answers_that_come_at_once_lose_nothing_and_double_nothing() -> None:
    def scenario(client: Client) -> None:
        head = b"HEAD /v2 HTTP/1.1\r\n\r\n"
        client.send(GET + GET + GET + head * 10 + post(b"a"))
        for index in range(3):
            client.answer(index)
        assert len(client.desk.turns) == 14
        assert client.desk.bodies[-1] == b"a"
        assert client.statuses() == [200] * 13

    run(scenario)


def test_many_requests_at_once_let_others_have_their_turn() -> None:
    """A read brings 2,000 small ones, and each may take a millisecond to answer."""

    async def scenario() -> None:
        ticks = itertools.count()
        client = Client(clock=lambda: next(ticks) / 1000)
        client.desk.at_once = True
        client.send(GET * 40)
        answered = [len(client.statuses())]
        assert not client.pipe.reading
        while answered[-1] < 40:
            await asyncio.sleep(0)
            answered.append(len(client.statuses()))
            assert answered[-1] > answered[-2]
        assert max(after - before for before, after in itertools.pairwise(answered)) < 5
        assert client.pipe.reading
        client.connection.connection_lost(None)

    asyncio.run(scenario())


def test_a_control_verb_runs_beside_nothing_else() -> None:
    def scenario(client: Client) -> None:
        client.send(GET + ROLLBACK + GET)
        assert len(client.desk.turns) == 1
        assert not client.pipe.reading
        client.answer(0)
        assert len(client.desk.turns) == 2
        client.answer(1)
        assert len(client.desk.turns) == 3
        assert client.pipe.reading
        client.answer(2)
        assert client.statuses() == [200] * 3

    run(scenario)


def test_a_client_that_does_not_read_is_not_read_and_is_cut_in_the_end() -> None:
    def scenario(client: Client) -> None:
        client.send(post(b"a"))
        client.connection.pause_writing()
        client.answer(0, "a" * 100_000)
        client.pipe.unsent = 100_000
        assert not client.pipe.reading
        client.wait(50)
        client.pipe.unsent = 70_000  # it reads again, slowly
        client.wait(70)
        assert not client.pipe.end()
        client.wait(10)
        assert client.pipe.end() == "aborted"

    run(scenario)


def test_one_byte_now_and_then_is_no_reading() -> None:
    def scenario(client: Client) -> None:
        client.send(post(b"a"))
        client.connection.pause_writing()
        client.answer(0, "a" * 100_000)
        for second in range(1, 77):
            client.pipe.unsent = 100_000 - second
            client.wait(1)
        assert client.pipe.end() == "aborted"

    run(scenario)


def test_answers_that_nobody_takes_have_a_room_too() -> None:
    async def scenario() -> None:
        first = Client()  # whose gate has room for 200,000 bytes
        pipes = [first.pipe, Pipe(), Pipe(), Pipe()]
        others = [Connection(first.gate) for _ in pipes[1:]]
        for other, pipe in zip(others, pipes[1:], strict=True):
            other.connection_made(pipe)  # type: ignore[arg-type]  # what a connection uses of one
        for one, pipe, unsent in zip(
            (first.connection, *others), pipes, (50_000, 150_000, 140_000, 900_000), strict=True
        ):
            one.taking.wrote = pipe.unsent = unsent
        first.gate._swept()
        assert [pipe.end() for pipe in pipes] == [""] * 4  # perhaps they take some of it just now
        pipes[3].unsent = 800_000  # as this one does
        pipes[1].unsent -= 1  # and this one does not
        first.gate._swept()
        assert [pipe.end() for pipe in pipes] == ["", "aborted", "", ""]
        assert first.counted == ["timeout"]
        for one in (first.connection, *others):
            one.connection_lost(None)

    asyncio.run(scenario())


def test_what_waits_behind_a_full_pipe_is_taken_when_it_is_empty() -> None:
    def scenario(client: Client) -> None:
        client.connection.pause_writing()
        assert not client.pipe.reading
        client.connection.resume_writing()
        client.send(post(b"a"))
        assert client.desk.bodies == [b"a"]

    run(scenario)


def test_a_body_goes_into_its_place_and_what_follows_into_the_scratch() -> None:
    async def scenario() -> None:
        client = Client()
        body = bytes(range(256)) * 300
        client.send(post(body)[:1000])
        assert len(client.connection.get_buffer(-1)) == len(post(body)) - 1000
        client.send(post(body)[1000:])
        assert not client.desk.bodies  # the read has to let go of it first
        client.send(GET)
        assert client.desk.bodies == [body, b""]
        await asyncio.sleep(0)
        assert len(client.desk.bodies) == 2
        client.connection.connection_lost(None)
        assert client.counted == ["client_gone"]

    asyncio.run(scenario())


def test_a_body_that_ends_with_its_read_is_taken_by_itself() -> None:
    async def scenario() -> None:
        client = Client()
        client.send(post(b"abcdef")[:-3])
        client.send(b"def")
        await asyncio.sleep(0)
        assert client.desk.bodies == [b"abcdef"]
        client.connection.connection_lost(None)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("sent", "seconds", "said"),
    [
        (b"", 10, "header was not complete after 10 s"),
        (b"\r\n", 10, "header was not complete after 10 s"),
        (b"GET /v2 HT", 10, "header was not complete after 10 s"),
        (post(b"abc")[:-1], 5, "body stood still for 5 s"),
    ],
)
def test_patience_ends(sent: bytes, seconds: float, said: str) -> None:
    def scenario(client: Client) -> None:
        client.send(sent)
        client.wait(seconds - 0.5)
        assert not client.pipe.written
        client.wait(1.5)
        assert client.statuses() == [408]
        assert said in client.pipe.written.decode()
        assert client.counted == ["timeout"]
        client.wait(3)
        assert client.pipe.end() == "aborted"

    run(scenario)


@pytest.mark.parametrize("chunked", [False, True])
def test_drops_do_not_stretch_it(*, chunked: bool) -> None:
    def scenario(client: Client) -> None:
        sized = post(bytes(1000))[:-1000]
        client.send(b"POST /v2/models/a/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" if chunked else sized)
        while not client.pipe.written:
            client.wait(2)
            client.send(b"1\r\na\r\n1" if chunked else b"a")
            client.wait(2)
            client.send(b"\r\na\r\n" if chunked else b"a")
        assert 30 <= client.at <= 36
        assert b"not complete after 30 s" in client.pipe.written

    run(scenario)


def test_a_header_that_drips_has_its_ten_seconds() -> None:
    def scenario(client: Client) -> None:
        client.send(b"GET /v2 HTTP/1.1\r\n")
        while not client.pipe.written:
            client.wait(1)
            client.send(b"A: b\r\n")
        assert 10 <= client.at <= 12

    run(scenario)


def test_an_idle_connection_is_closed_and_one_that_waits_is_not() -> None:
    def scenario(client: Client) -> None:
        client.send(GET)
        client.wait(200)
        assert not client.pipe.end()
        client.answer(0)
        client.wait(75)
        assert not client.pipe.end()
        client.wait(1)
        assert client.pipe.end() == "aborted"

    run(scenario)


def test_an_outcome_that_never_comes_is_a_deadline() -> None:
    def scenario(client: Client) -> None:
        client.send(post(b"a"))
        client.desk.turns[0].latest_s = 20.0
        client.wait(20)
        assert not client.pipe.written
        client.wait(0.5)
        assert client.statuses() == [503]

    run(scenario)


def test_a_refusal_drops_the_body_and_stands_behind_the_answers() -> None:
    def scenario(client: Client) -> None:
        client.send(GET + post(bytes(500))[:-100])
        client.connection.refuse(fault("stopping", "the end"))
        client.send(GET)  # read and dropped
        assert not client.pipe.written
        client.answer(0)
        assert client.statuses() == [200, 503]
        assert client.pipe.end() == "half"
        assert client.gate.room.used == 0

    run(scenario)


def test_leaving_answers_what_is_owed_and_ends() -> None:
    def scenario(client: Client) -> None:
        client.send(GET + post(b"abc")[:-1])
        client.connection.leave()
        client.answer(0)
        assert not client.pipe.end()
        client.send(b"c" + GET)
        client.connection._complete()
        client.answer(1)
        assert client.pipe.end() == "closed"
        assert [b"connection: close" in one for one in bytes(client.pipe.written).split(b"HTTP/1.1")[1:]] == [
            False,
            True,
        ]

    run(scenario)


def test_the_word_to_go_on_comes_in_its_turn() -> None:
    def scenario(client: Client) -> None:
        client.send(GET + post(b"abc", b"Expect: 100-continue\r\n")[:-3])
        assert not client.pipe.written
        client.answer(0)
        assert client.statuses() == [200, 100]

    run(scenario)


def test_a_bug_ends_the_request_and_not_the_daemon(caplog: pytest.LogCaptureFixture) -> None:
    def scenario(client: Client) -> None:
        client.send(b"GET /bug HTTP/1.1\r\n\r\n")
        assert client.counted == ["internal"]
        assert "ZeroDivisionError: a bug on purpose" in caplog.text

    run(scenario)


def test_an_answer_that_cannot_be_written_down_is_internal(caplog: pytest.LogCaptureFixture) -> None:
    def scenario(client: Client) -> None:
        client.send(post(b"a"))
        client.desk.turns[0].settle(None)  # type: ignore[arg-type]  # no outcome at all: a bug
        assert client.statuses() == [500]
        assert json.loads(client.pipe.written.partition(b"\r\n\r\n")[2])["code"] == "internal"
        assert "a bug while answering POST" in caplog.text

    run(scenario)


def test_crowds_are_told_so_and_floods_are_not() -> None:
    async def scenario() -> None:
        client = Client(Limits(connections=1))
        pipes = [Pipe() for _ in range(70)]
        others = [Connection(client.gate) for _ in pipes]
        for other, pipe in zip(others, pipes, strict=True):
            other.connection_made(pipe)  # type: ignore[arg-type]  # as above
        assert [pipe.end() for pipe in pipes] == ["half"] * 64 + ["aborted"] * 6
        for one in (client.connection, *others):
            one.connection_lost(None)
        assert client.gate.open == 0

    asyncio.run(scenario())
