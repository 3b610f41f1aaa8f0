"""A client's ring: tensors and results in shared memory, and whatever a client may do with it (RULES 12)."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from edged import frames
from edged.messages import Answer
from edged.transports.fast.requests import App
from tests.integration.fast.double import Served, ended, infer, placed, receive
from tests.lending import FIXED, RING, SIZE, descriptors, hand_over, lingering, memory
from tests.waiting import until


@contextmanager
def with_ring(served: Served) -> Iterator[tuple[socket.socket, mmap.mmap]]:
    with memory() as (descriptor, mapped), served.connect() as client:
        hand_over(client, [descriptor])
        assert receive(client).head == (0, frames.RINGED, 0, 0, 77, 0)
        yield client, mapped


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_tensors_and_results_lie_in_the_ring(short_path: Path, loop: str) -> None:
    with Served(short_path, loop=loop) as served, with_ring(served) as (client, mapped):
        data = bytes(range(250)) * 400
        mapped[4096 : 4096 + len(data)] = data
        client.sendall(placed("echo", 4096, len(data), 500_000, 200_000, id=5))
        answer = receive(client)
        assert (answer.head.flags, answer.head.id, answer.name) == (frames.IN_RING, 5, b"3")
        assert struct.unpack("<QQ", answer.body) == (500_000, len(data))
        assert mapped[500_000:600_000] == data
        client.sendall(placed("echo", 4096, len(data), 500_000, 99_999, id=6))
        assert receive(client).body == data  # it has no room there
        client.sendall(placed("echo", 4096, 100, 500_000, 200_000, id=7))
        assert receive(client).body == data[:100]  # not worth it
        client.sendall(placed("echo", SIZE, 0, 0, 0, id=8) + infer("echo", b"beside it", 9))
        assert [receive(client).body, receive(client).body] == [b"", b"beside it"]


@pytest.mark.parametrize(
    ("at", "size", "room_at", "room"),
    [
        (SIZE, 1, 0, 0),
        (0, SIZE + 1, 0, 0),
        (2**64 - 1, 2, 0, 0),
        (0, 8, SIZE - 1, 2),
        (0, 8, 2**64 - 1, 2**64 - 1),
        (2**63, 2**63, 0, 0),
    ],
)
def test_places_outside_are_refused(served: Served, at: int, size: int, room_at: int, room: int) -> None:
    with with_ring(served) as (client, _):
        client.sendall(placed("echo", at, size, room_at, room, id=3))
        answer = receive(client)
        assert (answer.head.id, answer.problem["code"]) == (3, "bad_input")
        assert str(SIZE) in answer.problem["message"]
        client.sendall(infer("echo", b"on", 4))
        assert receive(client).body == b"on"


def test_what_is_no_ring_is_refused(served: Served, tmp_path: Path) -> None:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, SIZE)

    def refused(passed: Sequence[int], words: str, code: str = "bad_input") -> None:
        with served.connect() as client:
            hand_over(client, passed)
            answer = receive(client)
            assert (answer.head.id, answer.problem["code"]) == (77, code)
            assert words in answer.problem["message"]
            client.sendall(placed("echo", 0, 8, id=2) + infer("echo", b"goes on", 3))
            assert "no ring was handed over" in receive(client).problem["message"]
            assert receive(client).body == b"goes on"

    refused([], "0 descriptors")
    refused([file], "no memfd")
    with memory() as (one, _), memory() as (other, _):
        refused([one, other], "2 descriptors")
        refused([one, one, one, one, one, one], "descriptors")
    for seals in (0, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW):
        with memory(seals=seals) as (one, _):
            refused([one], "not sealed")
    with memory(0) as (one, _):
        refused([one], "0 bytes", "too_large")
    with memory(2**30) as (one, _):
        refused([one], "1073741824", "too_large")
    os.close(file)


def test_a_ring_sealed_against_writing_cannot_take_results(served: Served) -> None:
    with memory(seals=0) as (one, mapped), served.connect() as client:
        mapped.close()
        fcntl.fcntl(one, fcntl.F_ADD_SEALS, FIXED | fcntl.F_SEAL_WRITE)
        hand_over(client, [one])
        assert "cannot be mapped" in receive(client).problem["message"]


def test_huge_pages_are_refused_where_there_are_some(served: Served) -> None:
    try:
        one = os.memfd_create("huge", os.MFD_HUGETLB | os.MFD_ALLOW_SEALING)
    except OSError as error:
        pytest.skip(f"no huge pages here: {error}")
    os.ftruncate(one, 2 * 2**20)
    fcntl.fcntl(one, fcntl.F_ADD_SEALS, FIXED)
    with served.connect() as client:
        hand_over(client, [one])
        assert "huge pages" in receive(client).problem["message"]
    os.close(one)


def test_a_ring_comes_first_and_once(served: Served) -> None:
    with memory() as (one, _), served.connect() as client, served.connect() as late:
        hand_over(client, [one])
        receive(client)
        client.sendall(RING)
        assert "once" in receive(client).problem["message"]
        late.sendall(infer("echo", b"", 1))
        receive(late)
        with suppress(PermissionError):  # the kernel says so since 6.16
            hand_over(late, [one], b"")
        late.sendall(RING)
        assert receive(late).problem["code"] == "bad_input"
    with served.connect(tcp=True) as client:
        client.sendall(RING)
        assert "0 descriptors" in receive(client).problem["message"]


def test_no_descriptor_and_no_memory_stays_behind(quick: Served) -> None:
    app = quick.fast._application
    assert isinstance(app, App)
    with quick.connect() as client:  # whatever is opened once is
        client.sendall(infer("echo", b"", 1))
        receive(client)
    until(lambda: not quick.fast.gates[0].connections)
    before = descriptors()
    for data in (RING, infer("echo", b"", 1), RING[:5], b"\0" * 24):
        with memory() as (one, _), quick.connect() as client:
            hand_over(client, [one, one], data)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
    with memory() as (one, _), quick.connect() as client:
        hand_over(client, [one])
        receive(client)
        assert app.rings.used == SIZE
        later = infer("echo", b"later", 1)
        try:
            hand_over(client, [one, one], later)
        except PermissionError:  # since Linux 6.16
            client.sendall(later)
        assert receive(client).body == b"later"
    until(lambda: descriptors() == before)
    assert app.rings.used == 0


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize(
    "data",
    [infer("echo", b"", 1), infer("echo", bytes(50_000), 1), infer("echo", bytes(50_000), 1)[:30_000], b"\0" * 24],
)
def test_what_is_passed_without_a_ring_s_frame_is_let_go(short_path: Path, loop: str, data: bytes) -> None:
    """At once, and not at the end of the connection."""
    reads, writes = os.pipe()
    with Served(short_path, loop=loop) as served, served.connect() as client:
        hand_over(client, [writes], data)
        os.close(writes)
        assert os.read(reads, 1) == b"", "nobody else has it any more"
    os.close(reads)


@pytest.mark.parametrize(
    ("before", "beside"),
    [
        (b"", RING),
        (b"", infer("echo", b"", 1)),
        (b"", b"\0" * 24),
        (RING[:1], RING[1:]),
        (infer("echo", b"", 1), b"x"),
        (infer("echo", bytes(40_000), 1), RING),
    ],
)
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_what_takes_long_to_close_holds_up_nobody(short_path: Path, loop: str, before: bytes, beside: bytes) -> None:
    """Whichever bytes it lies beside, and when these came before anybody looked."""
    with lingering() as passed, Served(short_path, loop=loop) as served, served.connect() as good:
        held = threading.Event()
        served.loop.call_soon_threadsafe(held.wait)
        with served.connect() as client:
            if before:
                client.sendall(before)
            hand_over(client, [passed, passed, passed], beside)
            os.close(passed)
            held.set()
            good.sendall(infer("echo", b"fine", 1))
            assert receive(good).body == b"fine"
        good.sendall(infer("echo", b"and on", 2))
        assert receive(good).body == b"and on"


def test_all_rings_together_have_a_limit(quick: Served) -> None:
    with with_ring(quick), with_ring(quick), memory() as (one, _), quick.connect() as third:
        hand_over(third, [one])
        assert receive(third).problem["code"] == "over_memory"


def test_what_a_client_does_to_its_ring_hurts_nobody_else(served: Served) -> None:
    """It writes into what is under way, takes one place for two, cuts holes, and goes while its answers come."""
    with served.connect() as good:
        with with_ring(served) as (client, mapped):
            mapped[:50_000] = b"a" * 50_000
            client.sendall(placed("held", 0, 50_000, 100_000, 60_000, id=1))
            client.sendall(placed("held", 0, 50_000, 100_000, 60_000, id=2))
            until(lambda: len(served.double.held) == 2)
            first, second = served.double.held
            mapped[:50_000] = b"b" * 50_000
            assert bytes(first.payload) == b"b" * 50_000  # read where it lies, and only copied for the run
            mapped.madvise(mmap.MADV_REMOVE)  # type: ignore[attr-defined,unused-ignore]
            assert bytes(second.payload) == bytes(50_000)
            served.call(first.reply, Answer(b"1" * 50_000, 0, "3"))
            served.call(second.reply, Answer(b"2" * 50_000, 0, "3"))
            assert {receive(client).head.id, receive(client).head.id} == {1, 2}
            assert mapped[100_000:150_000] == b"2" * 50_000
            client.sendall(placed("held", 0, 50_000, 100_000, 60_000, id=3))
            until(lambda: len(served.double.held) == 3)
        until(lambda: served.double.refused["", "client_gone"])
        third = served.double.held[2]
        served.call(third.reply, Answer(b"3" * 50_000, 0, "3"))
        good.sendall(infer("echo", b"fine", 1))
        assert receive(good).body == b"fine"
        served.double.held.clear()


def test_a_body_of_another_size_is_no_place(served: Served) -> None:
    with with_ring(served) as (client, _):
        client.sendall(infer("echo", b"too short", 1, flags=frames.IN_RING))
        assert "32 bytes" in receive(client).problem["message"]
        client.sendall(infer("echo", bytes(200_000), 2, flags=frames.IN_RING)[:100_000])
        assert receive(client).problem["code"] == "bad_input"
        assert ended(client)
