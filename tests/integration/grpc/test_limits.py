"""What no client may take of edged (RULES 12, 21)."""

from __future__ import annotations

import asyncio

import pytest

from edged.messages import Answer, Input
from edged.transports.rpc import frames
from edged.transports.rpc.messages import prefixed
from tests.integration.grpc.double import Served, headers, infer
from tests.integration.http.double import Crowd
from tests.waiting import until

OK, DEADLINE, EXHAUSTED, UNAVAILABLE = 0, 4, 8, 14


def test_connections_are_counted(quick: Served) -> None:
    with quick.client() as one, quick.client() as two, quick.client() as three:
        for client in (one, two, three):
            client.until(frames.SETTINGS)
        with quick.client() as fourth:
            assert "has 3 connections already" in fourth.ended()[1]
        assert one.call(1, message=infer()).status == OK


def test_calls_of_a_connection_are_counted_with_those_given_up(quick: Served) -> None:
    with quick.client() as client:
        for stream in (1, 3, 5, 7):
            client.open(stream)
            client.data(stream, infer("held"))
        until(lambda: len(quick.double.held) == 4)
        client.send(frames.reset(1, frames.CANCEL))
        client.open(9)
        assert client.until(frames.RESET)[2:] == (9, b"\0\0\0\x07")
        asyncio.run_coroutine_threadsafe(_reply(quick.double.held[0]), quick.loop).result(10)
        assert client.call(11, message=infer()).status == OK


async def _reply(item: Input) -> None:
    item.reply(Answer(b"", 0, "3"))


def test_who_calls_much_at_once_lets_others_have_their_turn(served: Served) -> None:
    """A read brings hundreds of calls, each of which is answered at once."""
    crowd = Crowd()
    with served.client() as calls, served.client() as good:
        good.call(1, message=infer())
        calls.until(frames.SETTINGS)
        parts = [
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream, headers(b"ServerReady"))
            + frames.frame(frames.DATA, frames.END_STREAM, stream, prefixed(b""))
            for stream in range(1, 601, 2)
        ]
        served.double.looked = crowd
        calls.send(*parts)
        assert crowd.begun.wait(10)
        good.open(3)
        good.data(3, infer())
        crowd.others.set()
        assert good.outcome(3).status == OK
        assert crowd.asked < 100
        assert {calls.outcome(stream).status for stream in range(1, 601, 2)} == {OK}
    served.double.looked = lambda: None


def test_a_flood_of_frames_that_bring_no_call_is_an_attack(quick: Served) -> None:
    for flood in (
        frames.frame(frames.PING, 0, 0, bytes(8)),
        frames.settings({}),
        frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
    ):
        with quick.client() as client:
            client.send(flood * 60)
            assert client.ended()[0] == frames.CALM


def test_a_flood_of_calls_that_are_reset_at_once_is_one_too(quick: Served) -> None:
    with quick.client() as client:
        parts = [
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream, headers()) + frames.reset(stream, frames.CANCEL)
            for stream in range(1, 201, 2)
        ]
        client.send(*parts)
        assert client.ended()[0] == frames.CALM


def test_headers_without_end_are_cut(quick: Served) -> None:
    with quick.client() as client:
        client.send(frames.frame(frames.HEADERS, 0, 1, bytes(16000)))
        client.send(frames.frame(frames.CONTINUATION, 0, 1, bytes(16000)))
        assert client.ended()[0] == frames.CALM


@pytest.mark.parametrize("sent", [b"", b"\0\0\0\x01\0ab"], ids=["nothing", "half"])
def test_a_message_that_stands_still_is_cut(quick: Served, sent: bytes) -> None:
    with quick.client() as client:
        client.open(1)
        client.send(frames.frame(frames.DATA, 0, 1, sent))
        found = client.outcome(1)
        assert (found.status, found.code) == (DEADLINE, "timeout")
        assert client.call(3, message=infer()).status == OK


def test_bodies_under_way_share_their_room(quick: Served) -> None:
    with quick.client() as client, quick.client() as other:
        client.open(1)
        client.send(frames.frame(frames.DATA, 0, 1, b"\0" + (900_000).to_bytes(4, "big") + b"a"))
        until(lambda: quick.rpc.gates[0].room.used == 900_000)
        other.open(1)
        other.send(frames.frame(frames.DATA, 0, 1, b"\0" + (900_000).to_bytes(4, "big") + b"a"))
        found = other.outcome(1)
        assert (found.status, found.code) == (UNAVAILABLE, "queue_full")
        assert client.outcome(1).code == "timeout"
        until(lambda: quick.rpc.gates[0].room.used == 0)


def test_whoever_sends_nothing_or_half_a_frame_is_cut(quick: Served) -> None:
    with quick.client() as client:
        client.send(frames.head(8, frames.PING, 0, 0) + b"half")
        with pytest.raises(ConnectionError):
            client.until(frames.GOAWAY)


def test_an_idle_connection_ends_with_a_word(quick: Served) -> None:
    with quick.client() as client:
        assert client.ended()[0] == frames.NO_ERROR


def test_whoever_takes_no_answers_is_cut(quick: Served) -> None:
    with quick.client(settings={frames.INITIAL_WINDOW: 0}) as client:
        client.open(1)
        client.data(1, infer(raw=bytes(1000)))
        with pytest.raises(ConnectionError):
            client.until(frames.DATA)
    until(lambda: quick.double.refused["", "timeout"] == 1)


def test_an_outcome_that_never_comes_is_a_deadline(quick: Served) -> None:
    with quick.client() as client:
        found = client.call(1, message=infer("late"))
        assert (found.status, found.code) == (DEADLINE, "deadline")


def test_the_clients_deadline_is_the_inputs(quick: Served) -> None:
    with quick.client() as client:
        client.open(1, b"ModelInfer", (b"grpc-timeout", b"100m"))
        client.data(1, infer("lost"))
        assert client.outcome(1).status == DEADLINE
        (item,) = quick.double.offered
        assert item.deadline_s is not None
        assert 0.05 < item.deadline_s - item.arrived_s <= 0.1001


def test_an_answer_behind_a_refusal_reaches_nobody_and_harms_nobody(quick: Served) -> None:
    """Whoever settles a batch has other inputs to go on with: nothing may come back to it."""
    with quick.client() as client:
        client.open(1)
        client.data(1, infer("held"))
        until(lambda: len(quick.double.held) == 1)
        client.send(frames.frame(frames.PING, 0, 1, bytes(8)))
        assert client.until(frames.GOAWAY)
        asyncio.run_coroutine_threadsafe(_reply(quick.double.held[0]), quick.loop).result(10)


def test_what_follows_the_message_of_a_call_takes_no_room(quick: Served) -> None:
    """The call is answered at once; the prefix of a message that never comes is behind it."""
    with quick.client() as client:
        client.open(1)
        message = infer("nobody")
        client.send(
            frames.frame(frames.DATA, 0, 1, prefixed(message) + message + b"\0" + (900_000).to_bytes(4, "big") + b"a")
        )
        assert client.outcome(1).code == "unknown_model"
        assert quick.rpc.gates[0].room.used == 0
        assert client.call(3, message=infer()).status == OK
