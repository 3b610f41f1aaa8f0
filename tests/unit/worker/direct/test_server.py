"""The worker's side of a model's own socket, with a model that echoes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

from edged import channel, frames
from edged.channel import AnswerHead, InputHead, Open
from edged.door import Leave, Listen, Underway
from edged.frames import Head
from edged.tensors import Signature
from edged.worker.direct.limits import Limits
from edged.worker.direct.server import Server
from edged.worker.direct.suspects import mark
from edged.worker.direct.swift import Ran, Swift
from tests.callers import request, row

OPEN = Open("m", "1", "", 1, 2**28, 2**20, 1, (), (), ())


class Echo:
    """The worker: it answers with what it is sent, each batch after so many seconds."""

    def __init__(self, sock: socket.socket, lasts_s: float = 0.0) -> None:
        self.sock = sock
        self._lasts_s = lasts_s

    def spent_ns(self) -> int:
        return 0

    def receive(self) -> Listen | Leave | None:
        message, _ = channel.receive(self.sock, payload_limit=0)
        assert isinstance(message, Listen | Leave)
        return message

    def answers(
        self, heads: Sequence[InputHead], parts: Sequence[memoryview]
    ) -> tuple[Sequence[tuple[AnswerHead, bytes]], tuple[int, ...]]:
        time.sleep(self._lasts_s)
        return [(AnswerHead(head.size), bytes(part)) for head, part in zip(heads, parts, strict=True)], (1,)


class Ready(Swift):
    """It has the result of each request already."""

    def __init__(self, part: bytes) -> None:
        super().__init__(None, 2**20, usable=False)  # type: ignore[arg-type]  # it is not looked at
        self._part = part

    def run(self, bodies: Sequence[memoryview]) -> Ran | None:
        return Ran(b"", [self._part] * len(bodies), len(self._part), (), len(bodies))


@contextlib.contextmanager
def serving(
    path: str,
    limits: Limits,
    swift: Swift | None = None,
    *,
    lasts_s: float = 0.0,
    terms: Listen = Listen(10.0),  # noqa: B008  -  a frozen value
) -> Iterator[None]:
    """A worker of one model, with its socket at `path`."""
    daemon, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    _, memory = Underway.create()
    underway = Underway.attach(memory)
    os.close(memory)

    def serve() -> None:
        fast = swift or Swift(None, 2**20, usable=False)  # type: ignore[arg-type]  # it is not looked at
        host = Echo(ours, lasts_s)
        server = Server(host, listener, underway, terms, OPEN, Signature((), ()), 1, fast, limits)
        with contextlib.suppress(channel.Closed):
            server.serve()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        daemon.close()
        thread.join(10)
        ours.close()
        listener.close()
    assert not thread.is_alive()


@contextlib.contextmanager
def connected(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(path)
        yield client


def test_what_waited_for_answers_to_leave_is_run_when_they_have_left_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "m.sock")
    with serving(path, Limits(untaken=100)), connected(path) as client:
        client.sendall(b"".join(request(number, row(1, 2, 3, 4)) for number in range(10)))
        reader = client.makefile("rb")
        for number in range(10):
            head = frames.read_head(reader.read(frames.HEAD.size))
            assert (head.kind, head.id) == (frames.RESULT, number)
            reader.read(head.size)


def test_of_those_who_take_nothing_the_one_with_most_is_cut_where_they_leave_too_much(tmp_path: Path) -> None:
    path = str(tmp_path / "m.sock")
    # 200 KB of what is sent lie in the kernel's buffers.
    with (
        serving(path, Limits(answers=800_000, sweep_s=0.05, stall_s=600.0, frame_s=600.0)),
        connected(path) as less,
        connected(path) as most,
        connected(path) as other,
    ):
        less.sendall(request(1, row(*range(100_000))))
        most.sendall(request(1, row(*range(250_000))))
        poll = select.poll()
        poll.register(most, 0)
        assert poll.poll(10_000)  # it has ended
        poll.unregister(most)
        poll.register(less, 0)
        assert not poll.poll(0)
        other.sendall(request(7, row(1, 2, 3, 4)))
        assert frames.read_head(other.recv(frames.HEAD.size)).id == 7


def test_a_large_result_is_sent_as_it_is(tmp_path: Path) -> None:
    """Where clients leave theirs untaken the memory is soon used up, and a copy of one more would end the process."""
    path, part = str(tmp_path / "m.sock"), bytes(8 * 2**20)
    with serving(path, Limits(), Ready(part)), connected(path) as client:
        into = bytearray(65536)
        tracemalloc.start()
        try:
            client.sendall(request(1, row(1, 2, 3, 4)))
            left = frames.HEAD.size + 1 + len(part)  # and the version
            while left:
                left -= client.recv_into(into)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert most < 2**20


def answers(client: socket.socket, count: int) -> list[tuple[Head, bytes]]:
    """So many frames, and what is behind their names."""
    reader, found = client.makefile("rb"), []
    for _ in range(count):
        head = frames.read_head(reader.read(frames.HEAD.size))
        found.append((head, reader.read(head.size)[head.name :]))
    return found


def code(body: bytes) -> str:
    return str(json.loads(body)["code"])


def test_a_client_beyond_those_that_may_be_there_is_told_so(tmp_path: Path) -> None:
    path = str(tmp_path / "m.sock")
    with serving(path, Limits(connections=1)), connected(path) as first:
        first.sendall(request(1, row(1)))
        assert answers(first, 1)[0][0].id == 1
        with connected(path) as second:
            ((head, body),) = answers(second, 1)
            assert (head.kind, head.id, code(body)) == (frames.ERROR, 0, "queue_full")
        first.sendall(request(2, row(1)))
        assert answers(first, 1)[0][0].id == 2


def test_a_request_s_own_deadline_counts_from_when_it_was_read(tmp_path: Path) -> None:
    path = str(tmp_path / "m.sock")
    with serving(path, Limits(), lasts_s=0.02), connected(path) as client:
        client.sendall(request(1, row(1)) + request(2, row(1), deadline_ms=10) + request(3, row(1), deadline_ms=60_000))
        (one, _), (two, body), (three, _) = answers(client, 3)
    assert [(head.id, head.kind) for head in (one, two, three)] == [
        (1, frames.RESULT),
        (2, frames.ERROR),
        (3, frames.RESULT),
    ]
    assert code(body) == "deadline"


def test_a_suspect_is_none_any_more_when_it_has_run(tmp_path: Path) -> None:
    path, one = str(tmp_path / "m.sock"), request(1, row(1))
    suspect = mark(memoryview(one)[frames.HEAD.size :])
    with serving(path, Limits(), terms=Listen(10.0, (suspect,))), connected(path) as client:
        client.sendall(one + one)
        assert [head.flags for head, _ in answers(client, 2)] == [frames.RETRIED, 0]
