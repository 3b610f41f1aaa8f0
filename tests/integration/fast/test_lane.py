"""The fast lane on real sockets: frames in any pieces, answers with their ids, errors as frames, nobody disturbed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edged import frames
from edged.messages import FAST, Answer, Source
from tests.integration.fast.double import Served, ended, exactly, infer, receive
from tests.integration.http.double import Crowd
from tests.unit.test_frames import example
from tests.waiting import until as wait_until


@pytest.fixture
def client(served: Served) -> Iterator[socket.socket]:
    with served.connect() as one:
        yield one


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_the_request_of_the_page_and_who_it_is_for(short_path: Path, loop: str, *, tcp: bool) -> None:
    with Served(short_path, loop=loop) as served, served.connect(tcp=tcp) as client:
        client.sendall(example("request"))
        unknown = receive(client)
        assert (unknown.head.kind, unknown.head.id) == (frames.ERROR, 7)
        assert unknown.problem["code"] == "unknown_model"
        assert "echo" in unknown.problem["message"]
        body = example("request")[30:]
        client.sendall(infer("echo", body, 2**64 - 1, deadline_ms=250))
        answer = receive(client)
        assert answer.head == (len(body) + 1, frames.RESULT, 0, 1, 2**64 - 1, 0)
        assert (answer.name, answer.body) == (b"3", body)
        item = served.double.offered[-1]
        assert (item.form, item.source, item.model, item.payload) == (FAST, Source.FAST, "echo", body)
        assert item.deadline_s is not None
        assert item.deadline_s - item.arrived_s == pytest.approx(0.25)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    bodies=st.lists(st.sampled_from([0, 1, 100, 16_360, 16_384, 70_000, 200_000]), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 300_000), max_size=6),
)
def test_frames_come_in_any_pieces(served: Served, bodies: list[int], cuts: list[int]) -> None:
    data = b"".join(infer("echo", bytes([number]) * size, number) for number, size in enumerate(bodies))

    def send(client: socket.socket) -> None:
        start = 0
        for cut in [*sorted(cut for cut in cuts if cut < len(data)), len(data)]:
            client.sendall(data[start:cut])
            start = cut

    with served.connect() as client:
        sender = threading.Thread(target=send, args=(client,))  # edged reads no further while its answers lie about
        sender.start()
        for number, size in enumerate(bodies):
            answer = receive(client)
            assert (answer.head.id, answer.head.kind, answer.body) == (number, frames.RESULT, bytes([number]) * size)
        sender.join()


def test_one_byte_at_a_time(client: socket.socket) -> None:
    for byte in infer("echo", b"abc", 5):
        client.sendall(bytes([byte]))
    assert receive(client).body == b"abc"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(
    garbage=st.one_of(
        st.binary(min_size=24, max_size=200), st.binary(max_size=60).map(lambda rest: example("request") + rest)
    )
)
def test_garbage_gets_an_error_or_waits_and_disturbs_nobody(served: Served, garbage: bytes) -> None:
    with served.connect() as good, served.connect() as bad:
        good.sendall(infer("echo", b"before", 1))
        bad.sendall(garbage)
        bad.shutdown(socket.SHUT_WR)
        good.sendall(infer("echo", b"after", 2))
        assert [receive(good).body, receive(good).body] == [b"before", b"after"]
        while piece := bad.recv(65536):
            assert piece
    assert served.complaints == []


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"POST /v2/models/echo/infer HTTP/1.1\r\n\r\n", "0xED"),
        (frames.head(frames.INFER, 3, 9, name=4) + b"echo", "a name of 4"),
        (frames.head(0x77, 0, 9), "kind 0x77"),
        (frames.head(frames.RESULT, 0, 9), "kind 0x81"),
        (frames.head(frames.RING, 5, 9, name=5) + b"ring!", "kind 0x03"),
        (frames.head(frames.DESCRIBE, 5, 9, name=4) + b"echo!", "kind 0x02"),
        (frames.head(frames.DESCRIBE, 50_000, 9, name=4) + b"echo", "kind 0x02"),
        (frames.head(frames.RING, 50_000, 9), "kind 0x03"),
    ],
)
def test_what_is_no_frame_is_told_and_ends_the_connection(client: socket.socket, frame: bytes, words: str) -> None:
    client.sendall(frame)
    answer = receive(client)
    assert answer.head.kind == frames.ERROR
    assert answer.problem["code"] == "bad_input"
    assert words in answer.problem["message"]
    assert "docs/fast.md" in answer.problem["hint"]
    assert ended(client)


def test_answers_come_as_they_are_ready(served: Served, client: socket.socket) -> None:
    client.sendall(infer("held", b"1", 1) + infer("echo", b"2", 2))
    assert receive(client).head.id == 2
    held = served.double.held.pop()
    served.call(held.reply, Answer(b"x", 0, "12", nonfinite=True, retried=True))
    answer = receive(client)
    assert answer.head == (3, frames.RESULT, frames.NONFINITE | frames.RETRIED, 2, 1, 0)
    assert (answer.name, answer.body) == (b"12", b"x")
    served.call(held.reply, Answer(b"again", 0, "12"))
    client.sendall(infer("echo", b"3", 3))
    assert receive(client).head.id == 3


def test_a_refusal_and_a_bug_are_answered_and_the_connection_goes_on(served: Served, client: socket.socket) -> None:
    client.sendall(infer("full", b"", 1) + infer("bug", b"", 2) + infer("echo", b"", 3))
    assert receive(client).problem["code"] == "queue_full"
    assert receive(client).problem == {
        "code": "internal",
        "message": "edged failed to answer this request",
        "hint": "The journal has the traceback: please report it.",
    }
    assert receive(client).head.id == 3
    assert served.double.refused["bug", "internal"] == 1


def test_metadata(client: socket.socket) -> None:
    client.sendall(
        frames.head(frames.DESCRIBE, 4, 3, name=4) + b"echo" + frames.head(frames.DESCRIBE, 1, 4, name=1) + b"\xff"
    )
    answer = receive(client)
    assert (answer.head.kind, answer.head.id) == (frames.DESCRIPTION, 3)
    assert answer.problem["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert receive(client).problem["code"] == "unknown_model"


def test_who_asks_much_at_once_lets_others_have_their_turn(short_path: Path) -> None:
    """A read brings 2,000 questions, each of which is answered at once."""
    crowd = Crowd()
    with Served(short_path) as served, served.connect() as asks, served.connect() as good:
        served.double.looked = crowd
        asks.sendall((frames.head(frames.DESCRIBE, 4, 3, name=4) + b"echo") * 300)
        assert crowd.begun.wait(10)
        good.sendall(infer("echo", b"fine", 1))
        crowd.others.set()
        assert receive(good).body == b"fine"
        assert crowd.asked < 100
        assert {receive(asks).head.kind for _ in range(300)} == {frames.DESCRIPTION}


def test_too_large_is_refused_before_it_is_read(served: Served, client: socket.socket) -> None:
    client.sendall(infer("small", bytes(500), 1))
    assert receive(client).body == bytes(500)
    request = infer("small", bytes(900_000), 2)
    client.sendall(request[:100_000])
    answer = receive(client)
    assert (answer.head.id, answer.problem["code"]) == (2, "too_large")
    client.sendall(request[100_000:] + infer("small", bytes(1001), 3) + infer("echo", b"on", 4))
    assert receive(client).problem["code"] == "too_large"
    assert receive(client).body == b"on"
    client.sendall(frames.head(frames.INFER, 2**32 - 1, 6, name=4) + b"echo")
    answer = receive(client)
    assert (answer.head.id, answer.problem["code"]) == (6, "too_large")
    assert ended(client)
    assert served.double.refused["small", "too_large"] == 2


def test_only_so_many_wait_on_one_connection(quick: Served) -> None:
    def held_are(number: int) -> bool:
        return len(quick.double.held) == number

    with quick.connect() as client:
        client.sendall(b"".join(infer("held", bytes([number]), number) for number in range(10)))
        wait_until(lambda: len(quick.double.held) == 4)
        client.sendall(infer("echo", b"last", 99))
        bodies = []
        for left in range(10, 0, -1):
            wait_until(partial(held_are, min(4, left)))
            held = quick.double.held.pop(0)
            quick.call(held.reply, Answer(bytes(held.payload), 0, "3"))
            bodies.append(receive(client).body)
        bodies.append(receive(client).body)
        assert sorted(bodies) == [bytes([number]) for number in range(10)] + [b"last"]


def test_a_frame_that_stands_still_or_drips_is_cut(quick: Served) -> None:
    still, drips, body, idle = (quick.connect() for _ in range(4))
    still.sendall(infer("echo", b"abc", 1)[:10])
    body.sendall(infer("echo", bytes(50_000), 1)[:30_000])
    began = time.monotonic()
    with drips:
        for byte in infer("echo", bytes(300), 1)[:200]:
            try:
                drips.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.02)
        assert b"timeout" in drips.recv(1000)
    for client in (still, body):
        with client:
            answer = receive(client)
            assert (answer.head.id, answer.problem["code"]) == (0, "timeout")
            assert ended(client)
    assert time.monotonic() - began < 10
    with idle:
        idle.sendall(infer("echo", b"I take my time", 1))
        assert receive(idle).body == b"I take my time"
    assert quick.double.refused["", "timeout"] == 3


def test_one_connection_too_many_is_told(quick: Served) -> None:
    clients = [quick.connect() for _ in range(8)]
    for client in clients:  # each of them is in
        client.sendall(infer("echo", b"", 1))
        receive(client)
    with quick.connect() as ninth:
        assert receive(ninth).problem["code"] == "queue_full"
        assert ended(ninth)
    clients.pop().close()

    def room() -> bool:
        with quick.connect() as another:
            another.sendall(infer("echo", b"", 1))
            return receive(another).head.kind == frames.RESULT

    wait_until(room)
    for client in clients:
        client.close()


def test_a_client_that_takes_no_answers_is_cut_and_the_others_are_not(quick: Served) -> None:
    """Above what all untaken answers may take: one of the largest here."""
    with quick.connect() as slow, quick.connect() as good:
        slow.sendall(infer("held", b"1", 1) + infer("held", b"2", 2))
        wait_until(lambda: len(quick.double.held) == 2)
        for held in quick.double.held:
            quick.call(held.reply, Answer(bytes(900_000), 0, "3"))
        good.sendall(infer("echo", b"fine", 1))
        assert receive(good).body == b"fine"
        wait_until(lambda: quick.double.refused["", "timeout"] == 1)


def test_a_client_that_has_gone_is_counted_and_its_memory_given_back(quick: Served) -> None:
    app = quick.fast._application
    with quick.connect() as client:
        client.sendall(
            infer("held", bytes(50_000), 1) + infer("held", bytes(10), 2) + infer("echo", bytes(60_000), 3)[:40_000]
        )
        wait_until(lambda: len(quick.double.held) == 2)
        assert app.room.used >= 50_000
    wait_until(lambda: quick.double.refused["", "client_gone"] == 1)
    for held in quick.double.held:
        quick.call(held.reply, Answer(b"nobody reads this", 0, "3"))
    assert app.room.used == 0


def test_an_outcome_that_never_comes_is_a_deadline(quick: Served) -> None:
    with quick.connect() as client:
        client.sendall(infer("late", b"", 1) + infer("lost", b"", 2, deadline_ms=60))
        assert {receive(client).head.id, receive(client).head.id} == {1, 2}


def test_what_is_under_way_is_answered_before_the_end(short_path: Path) -> None:
    with Served(short_path) as served:
        idle, busy, sends = served.connect(), served.connect(), served.connect()
        sends.sendall(infer("held", bytes(100_000), 1)[:50_000])
        busy.sendall(infer("held", b"1", 1) + infer("held", b"2", 2))
        idle.sendall(infer("echo", b"", 1))
        receive(idle)
        wait_until(lambda: len(served.double.held) == 2)
        served.stop_s = 0.4
        stopping = served.loop.call_soon_threadsafe(lambda: served.loop.create_task(served.fast.stop(0.4)))
        assert stopping is not None
        assert ended(idle)
        assert ended(sends)
        with pytest.raises(OSError):
            served.connect()
        served.call(served.double.held[0].reply, Answer(b"in time", 0, "3"))
        assert receive(busy).body == b"in time"
        answer = receive(busy)
        assert (answer.head.id, answer.problem["code"]) == (2, "stopping")
        assert exactly(busy, 0) == b""
        assert ended(busy)
        for client in (idle, busy, sends):
            client.close()


def test_an_answer_behind_a_refusal_reaches_nobody_and_harms_nobody(served: Served, client: socket.socket) -> None:
    """Whoever settles a batch has other inputs to go on with: nothing may come back to it."""
    client.sendall(infer("held", b"1", 1) + b"no frame at all, and long enough")
    assert receive(client).problem["code"] == "bad_input"
    served.call(served.double.held.pop().reply, Answer(b"x", 0, "3"))
    assert ended(client)
