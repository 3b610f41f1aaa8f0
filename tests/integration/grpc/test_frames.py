"""HTTP/2 as its rules have it, well used and abused, frame by frame (RULES 21, 23)."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edged.messages import Answer
from edged.transports.rpc import frames
from edged.transports.rpc.hpack import encode
from edged.transports.rpc.limits import Limits
from edged.transports.rpc.messages import prefixed
from tests.integration.grpc.double import Client, Served, headers, infer
from tests.waiting import until

OK, INVALID, EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 0, 3, 8, 12, 13, 14


def test_a_call_is_answered_and_the_next_one_on_the_same_connection(served: Served) -> None:
    with served.client() as client:
        for stream in (1, 3, 5):
            found = client.call(stream, message=infer(id=str(stream), raw=b"abc"))
            assert (found.status, len(found.messages)) == (OK, 1)
            assert found.messages[0] == infer(id=str(stream)).replace(b"\x3a\x00", b"\x32\x03abc")


def test_calls_beside_each_other_are_answered_as_they_come(served: Served) -> None:
    with served.client() as client:
        client.open(1)
        client.data(1, infer("slow", "a"))
        assert client.call(3, message=infer(id="b")).status == OK
        assert client.outcome(1).status == OK


def test_a_message_may_come_in_any_pieces(served: Served) -> None:
    raw = bytes(range(256)) * 1000
    message = infer(raw=raw)
    data = b"\0" + struct.pack(">I", len(message)) + message
    with served.client() as client:
        client.open(1)
        client.send(frames.window(0, 2**20), frames.window(1, 2**20))
        for at, size in ((0, 3), (3, 4), (7, 9000), (9007, 100_000), (109_007, len(data))):
            piece = data[at : at + size]
            for start in range(0, len(piece), 16384):
                client.send(frames.frame(frames.DATA, 0, 1, piece[start : start + 16384]))
        client.send(frames.frame(frames.DATA, frames.END_STREAM, 1))
        assert client.outcome(1).messages[0].endswith(raw)


def test_padding_priorities_and_headers_in_pieces_are_read(served: Served) -> None:
    block = headers()
    with served.client() as client:
        padded = b"\x03" + bytes(5) + block[:10] + bytes(3)
        client.send(frames.frame(frames.HEADERS, frames.PADDED | frames.PRIORITIZED, 1, padded))
        client.send(frames.frame(frames.CONTINUATION, 0, 1, block[10:20]))
        client.send(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[20:]))
        message = infer(raw=b"a" * 6000)
        data = b"\0" + struct.pack(">I", len(message)) + message
        client.send(frames.frame(frames.DATA, frames.PADDED, 1, b"\x05" + data[:5500] + bytes(5)))
        client.send(frames.frame(frames.DATA, frames.PADDED | frames.END_STREAM, 1, b"\xff" + data[5500:] + bytes(255)))
        assert client.outcome(1).messages[0].endswith(b"a" * 6000)


def test_an_answer_waits_for_the_clients_window(served: Served) -> None:
    raw = b"x" * 200_000
    with served.client(settings={frames.INITIAL_WINDOW: 10}) as client:
        client.open(1)
        message = infer(raw=raw)
        data = b"\0" + struct.pack(">I", len(message)) + message
        for start in range(0, len(data), 16384):
            client.send(frames.frame(frames.DATA, 0, 1, data[start : start + 16384]))
        client.send(frames.frame(frames.DATA, frames.END_STREAM, 1))
        assert len(client.until(frames.DATA).payload) == 10
        client.send(frames.settings({frames.INITIAL_WINDOW: 100_000}))
        client.send(frames.window(1, 500_000))
        got = 10
        while got < 65535:  # of the connection
            got += len(client.until(frames.DATA).payload)
        assert got == 65535
        client.send(frames.window(0, 500_000))
        assert client.outcome(1).messages[0].endswith(raw)


def test_a_ping_comes_back(served: Served) -> None:
    with served.client() as client:
        client.send(frames.frame(frames.PING, 0, 0, b"abcdefgh"))
        found = client.until(frames.PING)
        assert (found.flags, found.payload) == (frames.ACK, b"abcdefgh")


def test_a_stream_answers_in_turn_and_ends_when_the_client_does(served: Served) -> None:
    with served.client() as client:
        client.open(1, b"ModelStreamInfer")
        for number in range(40):  # more than wait at a time
            client.data(1, infer("slow" if number < 20 else "echo", str(number)), end=False)
        client.data(1, infer("nobody", "bad"), end=False)
        client.send(frames.frame(frames.DATA, frames.END_STREAM, 1))
        found = client.outcome(1)
        assert (found.status, len(found.messages)) == (OK, 41)
        errors = [one for one in found.messages if one.startswith(b"\x0a")]
        assert len(errors) == 1
        assert errors[0].endswith(b"\x12\x05\x1a\x03bad")


def test_a_flood_of_requests_on_a_stream_waits_for_answers_and_keeps_its_order(served: Served) -> None:
    """More than may wait, in pieces that end anywhere, while answers make room in between."""
    sent = [infer("slow" if number % 40 == 0 else "echo", str(number), b"x" * 50) for number in range(300)]
    data = b"".join(prefixed(one) + one for one in sent)
    served.double.offered.clear()
    with served.client() as client:
        client.send(frames.window(0, 2**20))
        client.open(1, b"ModelStreamInfer")
        for at in range(0, len(data), 777):
            client.send(frames.frame(frames.DATA, 0, 1, data[at : at + 777]))
        client.send(frames.frame(frames.DATA, frames.END_STREAM, 1))
        found = client.outcome(1)
    assert (found.status, len(found.messages)) == (OK, 300)
    assert [item.payload for item in served.double.offered] == sent


def test_whoever_calls_what_is_not_there_hears_so(served: Served) -> None:
    with served.client() as client:
        assert client.call(1, b"ModelNothing")[:3:2] == (UNIMPLEMENTED, "unsupported")
        assert client.call(3, b"/other.Service/ModelInfer").status == UNIMPLEMENTED
        assert client.call(5, b"TraceSetting").details.startswith("unsupported: requests are not traced.")
        found = client.call(7, message=b"\xff\xff")
        assert (found.status, found.code) == (INVALID, "bad_input")
        client.send(
            frames.frame(frames.HEADERS, frames.END_HEADERS, 9, encode([(b":method", b"GET"), (b":path", b"/")]))
        )
        client.until(frames.HEADERS)
        assert client._trailers[9][b":status"] == b"415"
        assert client.call(11, message=infer()).status == OK


def test_a_call_without_its_message_is_told(served: Served) -> None:
    with served.client() as client:
        client.send(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, headers()))
        assert client.outcome(1).code == "bad_input"
        client.open(3)
        client.send(frames.frame(frames.DATA, frames.END_STREAM, 3, b"\0\0\0\0\x09abc"))
        assert client.outcome(3).code == "bad_input"


def test_a_message_above_every_limit_is_refused_before_it_is_read(served: Served) -> None:
    with served.client() as client:
        client.open(1)
        client.send(frames.frame(frames.DATA, 0, 1, b"\0\x7f\xff\xff\xff"))
        found = client.outcome(1)
        assert (found.status, found.code) == (EXHAUSTED, "too_large")
        assert client.until(frames.RESET).stream == 1
        client.send(frames.frame(frames.DATA, frames.END_STREAM, 1, bytes(1000)))  # what was on its way is dropped
        assert client.call(3, message=infer()).status == OK


def test_a_bug_is_an_answer(served: Served) -> None:
    with served.client() as client:
        found = client.call(1, message=infer("bug"))
        assert (found.status, found.code) == (INTERNAL, "internal")
        assert client.call(3, message=infer()).status == OK


def test_a_client_that_cancels_is_not_answered(served: Served) -> None:
    before = served.double.refused["", "client_gone"]
    with served.client() as client:
        client.open(1)
        client.data(1, infer("held"))
        until(lambda: any(item.model == "held" for item in served.double.held))
        client.send(frames.reset(1, frames.CANCEL))
        until(lambda: served.double.refused["", "client_gone"] == before + 1)
        held = served.double.held.pop()
        served.loop.call_soon_threadsafe(held.reply, Answer(b"late", 0, "3"))
        assert client.call(3, message=infer()).status == OK
        assert all(frame.stream != 1 for frame in client.seen)


BROKEN = {
    "no settings first": frames.frame(frames.PING, 0, 0, bytes(8)),
    "even stream": frames.settings({}) + frames.frame(frames.HEADERS, frames.END_HEADERS, 2, headers()),
    "data of no stream": frames.settings({}) + frames.frame(frames.DATA, 0, 1, b"abc"),
    "headers that go on elsewhere": frames.settings({})
    + frames.frame(frames.HEADERS, 0, 1, headers())
    + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 3),
    "data within headers": frames.settings({})
    + frames.frame(frames.HEADERS, 0, 1, headers())
    + frames.frame(frames.DATA, 0, 1, b"abc"),
    "continuation alone": frames.settings({}) + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1),
    "bad block": frames.settings({}) + frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x80"),
    "settings of five bytes": frames.frame(frames.SETTINGS, 0, 0, bytes(5)),
    "settings of a stream": frames.frame(frames.SETTINGS, 0, 1),
    "a window too wide": frames.settings({frames.INITIAL_WINDOW: 2**31}),
    "a window that bursts": frames.settings({}) + frames.window(0, 2**31 - 1),
    "a window of nothing": frames.settings({}) + frames.window(0, 0),
    "a short ping": frames.settings({}) + frames.frame(frames.PING, 0, 0, bytes(7)),
    "a push": frames.settings({}) + frames.frame(frames.PUSH, 0, 1, bytes(8)),
    "reset of no stream": frames.settings({}) + frames.reset(1, 0),
    "a huge frame": frames.settings({}) + frames.head(2**20, frames.PING, 0, 0),
    "more padding than frame": frames.settings({})
    + frames.frame(frames.HEADERS, frames.END_HEADERS, 1, headers())
    + frames.frame(frames.DATA, frames.PADDED, 1, b"\x09abc"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_whoever_breaks_the_protocol_is_told_and_cut_and_nobody_else_is(served: Served, name: str) -> None:
    with served.client() as other, Client(served.path, None) as client:
        client.send(BROKEN[name])
        code, _ = client.ended()
        assert code != frames.NO_ERROR
        assert other.call(1, message=infer()).status == OK


def test_data_beyond_its_window_ends_the_connection(served: Served) -> None:
    window = Limits().window
    with served.client() as client:
        client.open(1, b"ModelStreamInfer")
        for _ in range(20):  # so many that none is given anew
            client.data(1, infer("held"), end=False)
        try:
            for _ in range(window // 16384 + 2):
                client.send(frames.frame(frames.DATA, 0, 1, bytes(16384)))
        except OSError:
            pass  # it was quick
        assert client.ended()[0] == frames.FLOW_CONTROL


def test_whoever_speaks_http1_reads_what_this_is(served: Served) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(served.path)
        client.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        while piece := client.recv(4096):
            data += piece
    assert b"HTTP/1.1 400 Bad Request" in data
    assert b"this socket speaks gRPC alone" in data


FRAMES = st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)), max_size=8)
)
def test_garbage_ends_its_own_connection_at_most(served: Served, sent: list[tuple[int, int, int, bytes]]) -> None:
    with served.client() as client:
        try:
            for kind, flags, stream, payload in sent:
                client.send(frames.frame(kind, flags, stream, payload))
        except OSError:
            pass
    with served.client() as client:
        assert client.call(1, message=infer()).status == OK


def test_a_drain_answers_what_is_under_way_and_takes_nothing_more(short_path: Path) -> None:
    with Served(short_path) as served, served.client() as client:
        client.open(1)
        client.data(1, infer("slow", "a"))
        client.open(3, b"ModelStreamInfer")
        until(lambda: len(served.double.offered) == 1)
        stopping = asyncio.run_coroutine_threadsafe(served.rpc.stop(5.0), served.loop)
        client.until(frames.GOAWAY)
        client.open(5)
        assert client.outcome(1).status == OK
        assert client.outcome(3)[:3:2] == (UNAVAILABLE, "stopping")
        stopping.result(10)
        assert len(served.double.offered) == 1
