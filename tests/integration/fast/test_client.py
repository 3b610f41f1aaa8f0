"""edged/client.py against the lane itself: every kind of tensor, errors, lost connections; and it can be copied."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import edged.client
from edged.client import Client, EdgedError
from edged.errors import fault
from edged.frames import IN_RING, RESENT
from edged.messages import Answer
from edged.tensors import DATATYPES
from tests.integration.fast.double import Served
from tests.integration.http.double import Served as Http
from tests.unit.worker.formats.samples import extremes, same
from tests.waiting import until


@pytest.mark.parametrize("ring", [0, 1 << 20])
@pytest.mark.parametrize("tcp", [False, True])
def test_every_datatype_and_shape_both_ways(served: Served, ring: int, *, tcp: bool) -> None:
    tensors = {kind.oip: extremes(kind.oip) for kind in DATATYPES}
    tensors |= {
        "none": np.zeros((3, 0, 2), np.float32),
        "scalar": np.array(3, np.int64),
        "no strings": np.zeros((0, 2), object),
        "large": np.arange(30_000, dtype=np.float64).reshape(100, 300),
        "columns": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "big-endian": np.arange(3, dtype=np.int32),
    }
    with Client(f"127.0.0.1:{served.port}" if tcp else served.path, ring=ring) as client:
        sent = dict(tensors, **{"big-endian": tensors["big-endian"].astype(">i4")})
        for name, array in sent.items():  # each where it has other neighbours
            found = client.infer("echo", {name: array})
            assert list(found) == [name]
            assert same(found[name], np.ascontiguousarray(tensors[name]).reshape(array.shape))
        found = client.infer("echo", sent)
        assert list(found) == list(tensors)
        assert all(same(found[name], array) for name, array in tensors.items())
    assert client.infer("echo", {"x": ["ä", b"b"]})["x"].tolist() == ["ä", "b"]  # it connects again
    client.close()


def test_errors_say_what_to_do(served: Served) -> None:
    with Client(served.path) as client:
        with pytest.raises(EdgedError, match="queue_full: the queue of full is full") as caught:
            client.infer("full", {})
        assert (caught.value.code, caught.value.hint) == ("queue_full", "Send slower, or raise queue.size.")
        assert str(caught.value).endswith(" (Send slower, or raise queue.size.)")
        with pytest.raises(EdgedError, match="unknown_model"):
            client.describe("nobody")
        with pytest.raises(TypeError, match="x is complex128"):
            client.infer("echo", {"x": np.zeros(1, complex)})
        with pytest.raises(KeyError):
            client.receive(99)
        assert client.describe("echo")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


def test_several_at_once_in_any_order(served: Served) -> None:
    with Client(served.path, ring=1 << 20) as client:
        sizes = [1, 20_000, 100, 5_000, 60_000] * 4
        numbers = [client.send("echo", {"x": np.full(size, index)}) for index, size in enumerate(sizes)]
        for index, number in reversed(list(enumerate(numbers))):
            assert same(client.receive(number)["x"], np.full(sizes[index], index))
        assert sorted(client._free) == list(range(8))


def test_the_ring_is_used_both_ways_and_its_pieces_come_back(served: Served) -> None:
    seen = len(served.double.offered)
    with Client(served.path, ring=1 << 20) as client:
        x = np.arange(8_000, dtype=np.float64)
        results = [client.infer("echo", {"x": x * index})["x"] for index in range(20)]
        assert all(same(found, x * index) for index, found in enumerate(results))
        assert all(isinstance(item.payload, memoryview) for item in served.double.offered[seen:])
        client.infer("echo", {"x": np.zeros(9_000, np.float64)})  # above half a piece
        assert isinstance(served.double.offered[-1].payload, memoryview)
        assert not served.double.offered[-1].payload.readonly  # it came over the socket


def test_what_was_not_answered_is_sent_again(short_path: Path) -> None:
    with Served(short_path) as first:
        client = Client(first.path, timeout_s=10, ring=1 << 20)
        x = np.arange(20_000, dtype=np.float64)
        numbers = [
            client.send("held", {"x": x[:5]}),
            client.send("held", {"x": x[:4_000]}),
            client.send("held", {"x": x}),
        ]
        until(lambda: len(first.double.held) == 3)
        for connection in first.call(first.fast._connections):
            first.call(connection.abort)

        def answer() -> None:
            until(lambda: len(first.double.held) == 6)
            for item in first.double.held[3:]:
                first.call(item.reply, Answer(bytes(item.payload), 0, "3"))

        thread = threading.Thread(target=answer)
        thread.start()
        found = [client.receive(number)["x"] for number in numbers]
        thread.join()
        assert [len(one) for one in found] == [5, 4_000, 20_000]
        assert same(found[1], x[:4_000])
        assert same(found[2], x)
        client.close()


def test_an_input_that_ends_every_connection_is_given_up(quick: Served) -> None:
    with Client(quick.path, timeout_s=10) as client:
        client.infer("echo", {})
        number = client.send("held", {"x": np.zeros(1)})

        def cut() -> None:
            for times in range(1, 5):
                until(lambda: len(quick.double.held) == times)  # noqa: B023
                for connection in quick.call(quick.fast._connections):
                    quick.call(connection.abort)

        thread = threading.Thread(target=cut)
        thread.start()
        with pytest.raises(EdgedError, match="4 connections have ended without an answer"):
            client.receive(number)
        thread.join()
        assert len(quick.double.held) == 4


def test_it_waits_for_a_daemon_that_restarts_but_not_for_ever(short_path: Path) -> None:
    with Served(short_path) as first:
        client = Client(first.path, timeout_s=20)
        client.infer("echo", {"x": np.zeros(1)})
        number = client.send("held", {"x": np.ones(1)})
        until(lambda: first.double.held)
        first.stop_s = 0.0  # it answers `stopping`
    with Served(short_path) as second:

        def answer() -> None:
            until(lambda: second.double.held)
            second.call(second.double.held[0].reply, Answer(bytes(second.double.held[0].payload), 0, "4"))

        thread = threading.Thread(target=answer)
        thread.start()
        assert client.receive(number)["x"].tolist() == [1.0]
        thread.join()
    client._timeout_s = 0.1
    with pytest.raises(OSError, match=rf"(No such file.*|refused): '{first.path}'"):
        client.infer("echo", {"x": np.zeros(1)})
    client.close()


@pytest.mark.parametrize("name", [7, ord("G")])  # the second one makes a frame that begins as a header may
def test_the_socket_of_http_is_told_from_the_lanes_at_once(short_path: Path, name: int) -> None:
    with Http(short_path) as http, Client(http.path, timeout_s=60) as client:
        for number in [client.send("m" * (name - 8), {}), client.send("m" * (name - 8), {})]:
            with pytest.raises(EdgedError, match=f"no_daemon: {http.path} speaks HTTP") as caught:
                client.receive(number)
            assert "sockets.fast" in caught.value.hint


@pytest.mark.parametrize(
    ("said", "words"), [(b"220 mail.plant ESMTP ready, hello", "does not speak"), (b"", "ends every connection")]
)
def test_a_socket_where_somebody_else_listens(short_path: Path, said: bytes, words: str) -> None:
    path = str(short_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            with contextlib.suppress(OSError):  # the end
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(1000)
                        connection.send(said or b"\0")

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(path, timeout_s=60) as client, pytest.raises(EdgedError, match=f"no_daemon: {path} {words}"):
            client.infer("digits", {})
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost:http", ""])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="neither the path of a socket nor host:port"):
        Client(address)


def test_a_refused_connection_says_why(quick: Served) -> None:
    clients = [Client(quick.path) for _ in range(8)]
    for one in clients:
        one.infer("echo", {})
    with Client(quick.path) as ninth, pytest.raises(EdgedError, match="8 connections already"):
        ninth.infer("echo", {})
    for one in clients:
        one.close()


def test_an_answer_that_does_not_come_is_a_timeout_and_asked_for_no_more(served: Served) -> None:
    before = len(served.double.offered)
    with Client(served.path, timeout_s=0.1, ring=1 << 20) as client:
        for _ in range(10):  # the ring has eight pieces
            with pytest.raises(TimeoutError, match=f"timed out: '{served.path}'"):
                client.infer("held", {"x": np.zeros(5_000)})
        assert client.infer("echo", {"x": np.ones(5_000)})["x"][0] == 1.0
        payload = served.double.offered[-1].payload
        assert isinstance(payload, memoryview)
        assert payload.readonly  # it came through the ring
    assert len(served.double.offered) - before == 11
    served.double.held.clear()


def test_what_is_neither_text_nor_bytes_is_no_element(served: Served) -> None:
    with Client(served.path) as client, pytest.raises(TypeError, match="x has elements that are neither str nor bytes"):
        client.infer("echo", {"x": np.array(["a", 5], object)})


def test_a_later_answer_is_no_other_requests(served: Served) -> None:
    with Client(served.path, ring=1 << 20) as client:
        held = client.send("held", {"x": np.zeros(5_000)})
        assert client.infer("echo", {"x": np.ones(5_000)})["x"][0] == 1.0
        until(lambda: served.double.held)
        served.call(served.double.held.pop().reply, fault("deadline", "too late"))
        with pytest.raises(EdgedError, match="deadline"):
            client.receive(held)


def test_the_file_can_be_copied(tmp_path: Path, served: Served) -> None:
    copy = tmp_path / "my_client.py"
    copy.write_bytes(Path(edged.client.__file__).read_bytes())
    program = (
        "import sys, numpy, my_client\n"
        f"with my_client.Client({served.path!r}) as c: print(c.infer('echo', {{'x': numpy.ones(2)}})['x'].tolist())\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] in ('edged', 'msgspec')]\n"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[1.0, 1.0]\n", "")


def test_flags_of_a_request(served: Served) -> None:
    assert (edged.client._IN_RING, edged.client._RESENT) == (IN_RING, RESENT)
