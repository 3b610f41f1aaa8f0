"""A client's ring on a model's own socket: tensors and results in it, and whatever a client may do (RULES 12)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import mmap
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from edged import frames
from edged.client import Client
from edged.config.schema import Limits, Model
from edged.config.units import Duration, Size
from edged.tensors import BY_NUMPY
from edged.worker.formats.decoded import Array
from tests import models
from tests.callers import row
from tests.integration.fast.double import Frame, ended, infer, placed, receive
from tests.integration.serving.conftest import Bench, at, serve
from tests.lending import FIXED, RING, SIZE, hand_over, lingering, memory
from tests.unit.worker.formats.samples import extremes, same
from tests.unit.worker.formats.test_fast import body, read

Play = Callable[..., None]
Talk = Callable[[str], None]


@pytest.fixture
def play(play: Play, short_path: Path) -> Play:
    """On a bench whose model has a socket of its own."""
    return partial(play, listen=at(short_path))


@pytest.fixture
def talk(play: Play) -> Callable[..., None]:
    """Serves a model, and has clients talk to it, in a thread of theirs; its process is the same in the end."""

    def run(content: bytes, talk: Talk, settings: Model | None = None) -> None:
        async def scenario(bench: Bench) -> None:
            address = await serve(bench, content)
            live = bench.route.live
            await asyncio.to_thread(talk, address)
            assert bench.route.live is live
            assert bench.counters.restarts == 0

        play(scenario, settings)

    return run


@contextlib.contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(address)
        yield client


@contextlib.contextmanager
def with_ring(address: str, size: int = SIZE) -> Iterator[tuple[socket.socket, mmap.mmap]]:
    with memory(size) as (descriptor, mapped), connected(address) as client:
        hand_over(client, [descriptor])
        assert receive(client).head == (0, frames.RINGED, 0, 0, 77, 0)
        yield client, mapped


def lay(mapped: mmap.mmap, where: int, tensors: Mapping[str, Array]) -> int:
    """Puts a request's body into a ring; its size."""
    data = body(tensors)
    mapped[where : where + len(data)] = data
    return len(data)


def found(mapped: mmap.mmap, answer: Frame) -> dict[str, Array]:
    """The tensors of a result that lies in the ring."""
    assert answer.head.kind == frames.RESULT, answer
    assert answer.head.flags & frames.IN_RING
    start, size = struct.unpack("<QQ", answer.body)
    return read(mapped[start : start + size])


def test_every_datatype_both_ways(talk: Callable[..., None]) -> None:
    def client(address: str) -> None:
        tensors = {f"x_{dtype}": np.resize(extremes(BY_NUMPY[dtype].oip), (1000, 2)) for dtype in models.DTYPES}
        with with_ring(address, 1 << 22) as (client, mapped):
            for _ in range(3):
                size = lay(mapped, 4096, tensors)
                client.sendall(placed("m", 4096, size, 1 << 21, 1 << 21, id=5))
                answers = found(mapped, receive(client))
                assert all(same(answers[f"y_{name[2:]}"], array) for name, array in tensors.items())
        with Client(address, ring=1 << 23) as own:
            answers = own.infer("m", tensors)
            assert all(same(answers[f"y_{name[2:]}"], array) for name, array in tensors.items())

    talk(models.identities(), client)


def test_results_go_where_there_is_room_and_others_over_the_socket(talk: Callable[..., None]) -> None:
    def client(address: str) -> None:
        x = np.arange(8000, dtype=np.float32).reshape(2000, 4)
        with with_ring(address) as (client, mapped):
            size = lay(mapped, 0, {"x": x})
            client.sendall(placed("m", 0, size, 500_000, 200_000, id=5))
            answer = receive(client)
            assert (answer.head.flags, answer.head.id, answer.name) == (frames.IN_RING, 5, b"1")
            assert struct.unpack("<QQ", answer.body) == (500_000, size)
            assert same(read(mapped[500_000 : 500_000 + size])["y"], x)
            client.sendall(placed("", 0, size, 500_000, size - 1, id=6))
            assert same(read(receive(client).body)["y"], x)  # it has no room there
            client.sendall(placed("", 0, size, id=7))
            assert same(read(receive(client).body)["y"], x)  # nor any at all
            small = lay(mapped, 0, {"x": x[:1]})
            client.sendall(placed("m", 0, small, 500_000, 200_000, id=8))
            assert same(read(receive(client).body)["y"], x[:1])  # not worth it
            client.sendall(infer("m", body({"x": 2 * x}), 9) + placed("m", 0, small, 0, 0, id=10))
            assert same(read(receive(client).body)["y"], 2 * x)  # beside it
            assert receive(client).head.id == 10
        with Client(address, ring=1 << 16) as own:  # of which half a piece is 4 KiB
            assert same(own.infer("m", {"x": x})["y"], x)

    talk(models.identity(), client)


def test_places_outside_and_bodies_above_the_limit_are_refused(talk: Callable[..., None]) -> None:
    def client(address: str) -> None:
        with with_ring(address) as (client, mapped):
            size = lay(mapped, 0, {"x": row(1, 2, 3, 4)})
            for place in (
                (SIZE, 1, 0, 0),
                (0, SIZE + 1, 0, 0),
                (2**64 - 1, 2, 0, 0),
                (0, size, SIZE - 1, 2),
                (0, size, 2**64 - 1, 2**64 - 1),
            ):
                client.sendall(placed("m", *place, id=3))
                answer = receive(client)
                assert (answer.head.id, answer.problem["code"]) == (3, "bad_input")
                assert str(SIZE) in answer.problem["message"]
            client.sendall(infer("m", b"too short", 4, flags=frames.IN_RING) + placed("m", 0, 4097, id=5))
            assert "32 bytes" in receive(client).problem["message"]
            assert receive(client).problem["code"] == "too_large"
            client.sendall(placed("m", 0, 0, id=6) + placed("m", 0, size - 1, id=7) + placed("m", 0, size, id=8))
            assert [receive(client).problem["code"] for _ in range(2)] == ["bad_input"] * 2
            assert receive(client).head.kind == frames.RESULT

    talk(models.identity(), client, Model("m", limits=Limits(message=Size(4096))))


def test_what_is_no_ring_is_refused(talk: Callable[..., None], tmp_path: Path) -> None:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, SIZE)

    def refused(address: str, passed: Sequence[int], words: str, code: str = "bad_input") -> None:
        with connected(address) as client:
            hand_over(client, passed)
            answer = receive(client)
            assert (answer.head.id, answer.problem["code"]) == (77, code)
            assert words in answer.problem["message"]
            client.sendall(placed("m", 0, 8, id=2) + infer("m", body({"x": row(1, 2, 3, 4)}), 3))
            assert "no ring was handed over" in receive(client).problem["message"]
            assert receive(client).head == (49, frames.RESULT, 0, 1, 3, 0)

    def client(address: str) -> None:
        refused(address, [], "0 descriptors")
        refused(address, [file], "no memfd")
        with memory() as (one, _), memory() as (other, _):
            refused(address, [one, other], "2 descriptors")
        for seals in (0, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW):
            with memory(seals=seals) as (one, _):
                refused(address, [one], "not sealed")
                os.ftruncate(one, SIZE if seals else 0)  # it may be cut: nobody has it mapped
        with memory(0) as (one, _):
            refused(address, [one], "0 bytes", "too_large")
        with memory(2**30) as (one, _):
            refused(address, [one], "1073741824", "too_large")
        with memory(seals=0) as (one, mapped):
            mapped.close()
            fcntl.fcntl(one, fcntl.F_ADD_SEALS, FIXED | fcntl.F_SEAL_WRITE)
            refused(address, [one], "cannot be mapped")

    talk(models.identity(), client)
    os.close(file)


def test_a_ring_comes_first_and_once(talk: Callable[..., None]) -> None:
    def client(address: str) -> None:
        request = infer("m", body({"x": row(1, 2, 3, 4)}), 1)
        with memory() as (one, _), connected(address) as client, connected(address) as late:
            hand_over(client, [one], RING + RING + request)
            assert receive(client).head.kind == frames.RINGED
            assert "once" in receive(client).problem["message"]
            assert receive(client).head.kind == frames.RESULT
            late.sendall(request)
            receive(late)
            with contextlib.suppress(PermissionError):  # the kernel says so since 6.16
                hand_over(late, [one], b"")
            late.sendall(RING)
            assert "once" in receive(late).problem["message"]
            late.sendall(RING[:5] + bytes(19))
            assert receive(late).problem["code"] == "bad_input"
        with connected(address) as behind:
            behind.sendall(request + RING)
            assert receive(behind).head.kind == frames.RESULT
            assert "once" in receive(behind).problem["message"]

    talk(models.identity(), client)


def test_all_rings_of_a_model_have_a_limit_and_are_given_back(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.identity())
        assert bench.route.live is not None
        process = Path(f"/proc/{bench.route.live.pid}")
        request = infer("m", body({"x": row(1, 2, 3, 4)}), 1)

        def clients() -> None:
            with contextlib.ExitStack() as stack:
                for _ in range(4):
                    stack.enter_context(with_ring(address, 2**26))
                with memory(4096) as (one, _), connected(address) as fifth:
                    hand_over(fifth, [one])
                    assert receive(fifth).problem["code"] == "over_memory"
                    fifth.sendall(request)
                    assert receive(fifth).head.kind == frames.RESULT, "it goes on without"
                assert kept() == (4, 4)

        def kept() -> tuple[int, int]:
            """Clients' rings that it has open, and mapped."""
            links = []
            for one in (process / "fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    links.append(str(one.readlink()))
            mapped = (process / "maps").read_text().splitlines()
            return sum("memfd:test" in one for one in links), sum("memfd:test" in one for one in mapped)

        for _ in range(3):
            await asyncio.to_thread(clients)
            await bench.until(lambda: kept() == (0, 0))

    play(scenario)


def test_what_a_client_changes_under_a_running_model_does_not_reach_it(play: Play) -> None:
    """An index that has been looked at must not become another one; nor may what a model sorts by."""

    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.looks_late())
        live = bench.route.live
        assert live is not None
        ids, x = np.array([1, 9, 4], np.int64), np.arange(3000, dtype=np.float32)
        with with_ring(address) as (client, mapped):
            size = lay(mapped, 0, {"given": np.array([400_000], np.int64), "ids": ids, "x": x})
            client.sendall(placed("m", 0, size, SIZE // 2, SIZE // 2))
            await bench.until(lambda: bench.route.door.running(live))
            mapped[:size] = b"\x7f" * size
            answers = found(mapped, await asyncio.to_thread(receive, client))
            assert same(answers["rows"], np.arange(30, dtype=np.float32).reshape(10, 3)[ids])
            assert same(answers["y"], x)

    play(scenario, Model("m", limits=Limits(run=Duration(60))))


def test_who_leaves_during_a_run_finds_the_ring_as_it_was_and_the_next_is_served(play: Play) -> None:
    """It may have lent it anew by then. Before that it has cut holes into it, too."""

    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.looks_late())
        live = bench.route.live
        assert live is not None
        tensors: dict[str, Array] = {"ids": np.array([1], np.int64), "x": np.ones(3000, np.float32)}
        with memory() as (one, mapped):
            with connected(address) as client:
                hand_over(client, [one])
                size = lay(mapped, 0, {"given": np.array([400_000], np.int64), **tensors})
                client.sendall(placed("m", 0, size, SIZE // 2, SIZE // 2))
                await bench.until(lambda: bench.route.door.running(live))
                mapped.madvise(mmap.MADV_REMOVE)  # type: ignore[attr-defined,unused-ignore]
            await bench.until(lambda: bench.counters.outcomes["ok"] == 1)
            assert mapped[:] == bytes(SIZE)
            with connected(address) as again:
                hand_over(again, [one])
                size = lay(mapped, 0, {"given": np.array([4], np.int64), **tensors})
                again.sendall(placed("m", 0, size, SIZE // 2, SIZE // 2))
                assert receive(again).head.kind == frames.RINGED
                assert same(found(mapped, receive(again))["y"], tensors["x"])
        assert bench.counters.restarts == 0

    play(scenario, Model("m", limits=Limits(run=Duration(60))))


def test_few_bytes_that_name_much_memory_take_no_more_than_there_is_room_for(talk: Callable[..., None]) -> None:
    """Twenty requests of 16 MB each, all of one place: a kilobyte on the socket."""

    def client(address: str) -> None:
        x = np.ones((1_000_000, 4), np.float32)
        with with_ring(address, 2**25) as (client, mapped), connected(address) as good:
            size = lay(mapped, 0, {"x": x})
            client.sendall(b"".join(placed("m", 0, size, 2**24, 2**24, id=number) for number in range(20)))
            answers = []
            for number in range(20):
                answers.append(receive(client))
                assert answers[-1].head.id == number
                if number % 10 == 0:
                    good.sendall(infer("m", body({"x": row(1, 2, 3, 4)}), 1))
                    assert receive(good).head.kind == frames.RESULT
            assert [answer.problem for answer in answers if answer.head.kind != frames.RESULT] == []

    talk(models.identity(), client, Model("m", limits=Limits(message=Size(2**25), memory=Size(2**28))))


def test_switches_under_load_lose_nothing_and_the_ring_comes_along(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.identity())
        over = threading.Event()

        def client(first: int) -> int:
            sent = 0
            with Client(address, ring=1 << 22, timeout_s=60) as own:
                while not over.is_set():
                    arrays = [np.full((3000, 4), 1000 * first + sent + number, np.float32) for number in range(12)]
                    numbers = [own.send("m", {"x": array}) for array in arrays]
                    for number, array in zip(numbers, arrays, strict=True):
                        assert same(own.receive(number)["y"], array)
                    sent += len(arrays)
                assert sorted(own._free) == list(range(8))
            return sent

        clients = [asyncio.create_task(asyncio.to_thread(client, number)) for number in range(3)]
        try:
            for version in range(2, 10):
                await bench.route.switch(await bench.route.start(bench.release(models.identity(), version)))
                await bench.until(lambda: bench.counters.outcomes["ok"] > 20 or any(one.done() for one in clients))
                bench.counters.outcomes.clear()
        finally:
            over.set()
        assert min(await asyncio.gather(*clients)) > 0
        assert bench.counters.restarts == 0

    play(scenario)


def test_a_worker_that_ends_leaves_its_clients_their_rings(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.counting())
        with Client(address, ring=1 << 20, timeout_s=60) as own:
            given = np.full(4000, 5, np.int64)
            assert (await asyncio.to_thread(own.infer, "m", {"given": given}))["y"].tolist() == [5.0]
            given[0] = 2**62
            with pytest.raises(Exception, match="poison_input"):
                await asyncio.to_thread(own.infer, "m", {"given": given})
            assert bench.counters.restarts == 2
            given[0] = 7
            assert (await asyncio.to_thread(own.infer, "m", {"given": given}))["y"].tolist() == [7.0]

    play(scenario, Model("m", limits=Limits(run=Duration(0.3))))


@pytest.mark.parametrize(
    ("before", "beside"),
    [
        (b"", RING),
        (b"", infer("m", body({"x": row(1, 2, 3, 4)}))),
        (b"", b"\0" * 24),
        (RING[:1], RING[1:]),
        (infer("m", body({"x": row(1, 2, 3, 4)})), b"x"),
        (infer("m", bytes(40_000)), RING),
    ],
    ids=["ring", "request", "nonsense", "a ring's second byte", "half a frame", "behind much"],
)
def test_what_takes_long_to_close_holds_up_nobody(play: Play, before: bytes, beside: bytes) -> None:
    """Whichever bytes it lies beside, and when these came before anybody looked."""
    request = infer("m", body({"x": row(1, 2, 3, 4)}), 1)

    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.identity())
        assert bench.route.live is not None
        worker = psutil.Process(bench.route.live.pid)

        def client() -> None:
            with lingering() as passed, connected(address) as good:
                with connected(address) as bad:
                    worker.suspend()
                    if before:
                        bad.sendall(before)
                    hand_over(bad, [passed, passed, passed], beside)
                    os.close(passed)
                    worker.resume()
                    good.sendall(request)
                    assert receive(good).head.kind == frames.RESULT
                good.sendall(request)
                assert receive(good).head.kind == frames.RESULT

        await asyncio.to_thread(client)
        assert bench.counters.restarts == 0

    play(scenario)


def test_what_is_passed_without_a_ring_s_frame_is_let_go_at_once(talk: Callable[..., None]) -> None:
    def client(address: str) -> None:
        for data in (infer("m", body({"x": row(1, 2, 3, 4)})), infer("m", bytes(100_000))[:300], b"\0" * 24, b"half"):
            reads, writes = os.pipe()
            with connected(address) as one:
                hand_over(one, [writes], data)
                os.close(writes)
                if data == b"half":  # it may still become one: at the end of the connection
                    one.shutdown(socket.SHUT_WR)
                    assert ended(one)
                assert os.read(reads, 1) == b"", "nobody else has it any more"
            os.close(reads)

    talk(models.identity(), client)


def test_the_metadata_a_thousand_times_over_takes_neither_memory_nor_the_others_turn(talk: Callable[..., None]) -> None:
    def client(address: str) -> None:
        with connected(address) as asks, connected(address) as good:
            asks.sendall(frames.head(frames.DESCRIBE, 0, 5) * 2000)
            first = receive(asks)
            assert len(first.body) > 15_000
            assert json.loads(first.body)["name"] == "m"
            good.sendall(infer("m", b"", 1))
            assert receive(good).problem["code"] == "bad_input"
            for _ in range(1999):
                assert receive(asks).body == first.body

    talk(models.wide(100), client, Model("m", limits=Limits(memory=Size(2**24))))
