"""A model's own socket, served by its worker: clients' bytes go by the daemon, what it promises holds all the same."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edged import frames, listening
from edged.config.schema import Batch, Limits, Model
from edged.config.units import Duration, Size
from edged.errors import fault
from edged.messages import Answer
from tests import models
from tests.callers import ask_all, calling, request, row
from tests.integration.serving.conftest import Bench, at, serve

Play = Callable[..., None]

FOREVER = np.array([2**62], np.int64)  # turns of models.counting


@pytest.fixture
def play(play: Play, short_path: Path) -> Play:
    """On a bench whose model has a socket of its own."""
    return partial(play, listen=at(short_path))


def values(body: bytes, count: int = 4) -> list[float]:
    found: list[float] = np.frombuffer(body[-4 * count :], np.float32).tolist()
    return found


def test_a_worker_answers_its_own_clients(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        async with calling(await serve(bench, models.identity())) as caller:
            for number in range(5):
                head, version, body = await caller.ask(number, row(number, 2, 3, 4))
                assert (head.kind, head.id, version) == (frames.RESULT, number, b"1")
                assert values(body) == [number, 2, 3, 4]
            caller.send(frames.head(frames.DESCRIBE, 0, 5))
            head, _, body = await caller.frame()
            assert (head.kind, head.id) == (frames.DESCRIPTION, 5)
            assert json.loads(body)["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
            caller.send(*(request(number, row(number, 2, 3, 4)) for number in range(100)))
            assert [(await caller.frame())[0].id for _ in range(100)] == list(range(100))
        await bench.until(lambda: bench.counters.outcomes["ok"] == 105)
        assert bench.route.live is not None
        assert bench.route.live.tally.runs == 105, "what probation counts (RULES 26)"
        assert len(bench.route.recent()) > 0, "what a pushed model is tried on (RULES 24)"

    play(scenario)


def test_a_mistake_is_answered_and_disturbs_nobody(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.identity())
        async with calling(address) as caller:
            wrong = request(1, np.zeros((1, 5), np.float32))
            other = frames.head(frames.INFER, 5, 2, name=5) + b"other"
            unknown = frames.head(0x55, 0, 3)
            large = frames.head(frames.INFER, 5000, 4) + bytes(5000)
            caller.send(request(0, row(1, 2, 3, 4)), wrong, other, unknown, large, request(5, row(1, 2, 3, 4)))
            answers = [await caller.frame() for _ in range(6)]
            assert [head.id for head, _, _ in answers] == list(range(6)), "in the order of what they answer"
            codes = [json.loads(body)["code"] for head, _, body in answers if head.kind == frames.ERROR]
            assert codes == ["bad_input", "unknown_model", "bad_input", "too_large"]
            caller.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head, _, body = await caller.frame()
            assert (head.id, json.loads(body)["code"]) == (0, "bad_input")
            with pytest.raises(asyncio.IncompleteReadError):
                await caller.frame()
        assert len(await ask_all(address, [row(1, 2, 3, 4)])) == 1
        await bench.until(lambda: bench.counters.outcomes["ok"] == 3)
        assert bench.counters.outcomes["bad_input"] == 3

    play(scenario, Model("m", limits=Limits(message=Size(4096))))


def test_twenty_switches_under_load_lose_nothing_and_keep_the_order(play: Play) -> None:
    """RULES 15, for clients that send again what a connection leaves unanswered."""

    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.identity())
        over = False

        async def client(first: int) -> int:
            sent = 0
            while not over:
                arrays = [row(first, sent, number, 0) for number in range(50)]
                answers = await ask_all(address, arrays)
                assert [head.id for head, _, _ in answers] == list(range(50))
                assert [values(body) for _, _, body in answers] == [array[0].tolist() for array in arrays]
                sent += 50
            return sent

        clients = [asyncio.create_task(client(number)) for number in range(8)]
        for version in range(2, 22):
            await bench.route.switch(await bench.route.start(bench.release(models.identity(), version)))
            await bench.until(lambda: bench.counters.outcomes["ok"] > 50)
            bench.counters.outcomes.clear()
        over = True
        assert min(await asyncio.gather(*clients)) > 0

    play(scenario)


def test_a_worker_that_is_killed_loses_nothing_that_is_sent_again(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.identity())
        over = False

        async def client() -> None:
            while not over:
                answers = await ask_all(address, [row(number, 0, 0, 0) for number in range(50)])
                assert [head.id for head, _, _ in answers] == list(range(50))
                assert {head.kind for head, _, _ in answers} == {frames.RESULT}

        clients = [asyncio.create_task(client()) for _ in range(8)]
        for _ in range(3):
            await bench.until(lambda: bench.route.live is not None and bench.counters.outcomes["ok"] > 100)
            bench.counters.outcomes.clear()
            assert bench.route.live is not None
            os.kill(bench.route.live.pid, signal.SIGKILL)
            bench.route._deaths.forgive()
            await bench.until(lambda: bench.route.live is None)
        over = True
        await asyncio.gather(*clients)

    play(scenario)


def test_an_input_that_never_ends_is_poison_and_the_others_are_answered(play: Play) -> None:
    """RULES 8, 10, 13: ended within limits.run, sent again, ended again when it runs alone; then it is told so."""

    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.counting())
        good = [asyncio.create_task(ask_all(address, [np.array([5], np.int64)] * 20, name="given")) for _ in range(4)]
        bad = await ask_all(address, [np.array([7], np.int64), FOREVER, np.array([9], np.int64)], name="given")
        assert [(head.kind, head.id) for head, _, _ in bad] == [
            (frames.RESULT, 0),
            (frames.ERROR, 1),
            (frames.RESULT, 2),
        ]
        assert json.loads(bad[1][2])["code"] == "poison_input"
        assert bench.counters.restarts == 2
        for client in good:
            assert {head.kind for head, _, _ in await client} == {frames.RESULT}
        again = await ask_all(address, [FOREVER], name="given")
        assert json.loads(again[0][2])["code"] == "poison_input"
        assert bench.counters.restarts == 2, "it is known by now"

    play(scenario, Model("m", limits=Limits(run=Duration(0.3))))


def test_what_is_suspect_stays_so_when_another_process_ends_meanwhile(play: Play) -> None:
    """Else two inputs that end processes in turn would each make the other forgotten."""

    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.counting())
        for endless in (FOREVER, FOREVER - 1):
            seen = bench.counters.restarts
            async with calling(address) as caller:
                caller.send(request(1, endless, name="given"))
                await bench.until(lambda: bench.counters.restarts > seen)  # noqa: B023  -  it is awaited here
            bench.route._deaths.forgive()
        for endless in (FOREVER, FOREVER - 1):
            answers = await ask_all(address, [endless], name="given")
            assert json.loads(answers[0][2])["code"] == "poison_input"
            bench.route._deaths.forgive()
        assert bench.counters.restarts == 4, "each ended one process more, alone"

    play(scenario, Model("m", limits=Limits(run=Duration(0.3))))


class Tired(socket.socket):
    """A listening socket for a process that has no descriptor left."""

    tired = True
    accepts = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.accepts += 1
        if self.tired:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def test_without_a_descriptor_left_whoever_is_to_be_sent_away_waits_and_the_loop_rests(
    play: Play, short_path: Path
) -> None:
    tired = Tired(socket.AF_UNIX)
    tired.bind(str(short_path / "m.sock"))
    tired.listen()

    async def scenario(bench: Bench) -> None:
        door = bench.route.door
        door.open()
        door.refuse(fault("model_failed", "it has failed"))
        async with calling(door.address) as caller:
            answer = asyncio.create_task(caller.frame())
            await bench.until(lambda: tired.accepts)
            for _ in range(100):
                await asyncio.sleep(0)
            assert tired.accepts == 1
            tired.tired = False
            assert json.loads((await answer)[2])["code"] == "model_failed"

    play(scenario, listen=lambda: listening.Bound(tired, str(short_path / "m.sock"), local=True))


def test_who_stalls_or_takes_nothing_is_cut_and_holds_up_nobody(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.identity(shape=("batch", 50_000)))
        many = np.zeros((1, 50_000), np.float32)
        async with calling(address) as half:
            half.send(request(1, many)[:30])
            deaf.connect(address)
            deaf.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    deaf.send(request(1, many))
            for _ in range(10):
                assert len(await ask_all(address, [many])) == 1
            head, _, body = await half.frame()
            assert (head.id, json.loads(body)["code"]) == (0, "timeout")
            await bench.until(lambda: bench.counters.outcomes["timeout"] == 2)

    with socket.socket(socket.AF_UNIX) as deaf:
        play(scenario)


def test_the_channel_is_served_beside_clients_that_never_stop(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.linear())
        over = False

        async def client() -> None:
            while not over:
                await ask_all(address, [row(1, 2, 3, 4)] * 200, depth=64)

        clients = [asyncio.create_task(client()) for _ in range(4)]
        try:
            for _ in range(100):
                assert isinstance(await asyncio.wait_for(bench.send(b"[1, 2, 3, 4]"), 10), Answer)
            answers = await asyncio.gather(*(bench.send(b"[1, 2, 3, 4]") for _ in range(50)))
            assert all(isinstance(one, Answer) for one in answers)
        finally:
            over = True
            await asyncio.gather(*clients)

    play(scenario)


def test_the_time_of_a_client_s_run_is_not_that_of_a_batch_behind_it(play: Play) -> None:
    """RULES 10: each has limits.run for itself."""

    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.counting())
        live = bench.route.live
        assert live is not None
        async with calling(address) as caller:
            caller.send(request(1, FOREVER, name="given"))
            await bench.until(lambda: bench.route.door.running(live))
            sent = bench.send(b"[5]")
            await bench.until(lambda: not live.alive)
            assert isinstance(await sent, Answer)
        assert bench.counters.outcomes["poison_input"] == 0

    play(scenario, Model("m", limits=Limits(run=Duration(0.5))))


def test_a_deadline_that_passes_before_its_turn_is_told(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.counting())
        async with calling(address) as caller:
            long = np.array([3_000_000], np.int64)
            caller.send(request(1, long, name="given"), request(2, long, name="given", deadline_ms=1))
            first, second = await caller.frame(), await caller.frame()
            assert first[0].kind == frames.RESULT
            assert json.loads(second[2])["code"] == "deadline"

    play(scenario, Model("m", batch=Batch(max=1), limits=Limits(run=Duration(60))))


def test_whoever_comes_while_nobody_serves_waits_for_the_next_process(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        bench.route.door.open()
        async with calling(bench.route.door.address) as caller:
            caller.send(request(1, row(1, 2, 3, 4)))
            answer = asyncio.create_task(caller.frame())
            await asyncio.sleep(0)
            assert not answer.done()
            await bench.route.serve(bench.release(models.identity()))
            assert (await answer)[0].kind == frames.RESULT

    play(scenario)


def test_who_leaves_answers_what_it_has_read(play: Play, short_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.counting())
        live = bench.route.live
        assert live is not None
        async with calling(address) as caller:
            caller.send(request(1, np.array([2_000_000], np.int64), name="given"))
            await bench.until(lambda: bench.route.door.running(live))
            started_s = time.monotonic()
            bench.route.door.close()
            await bench.route.drain(30)
            assert (await caller.frame())[0].kind == frames.RESULT
            with pytest.raises(asyncio.IncompleteReadError):
                await caller.frame()
            assert time.monotonic() - started_s < 30
        assert bench.counters.outcomes["ok"] == 1, "the last counts come before the end"

    play(scenario, Model("m", limits=Limits(run=Duration(60))))
    assert not any(short_path.glob("*.sock"))


def test_who_asks_a_model_that_was_unloaded_is_told_so_until_it_is_back(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.identity())
        release = bench.route.release
        assert release is not None
        async with calling(address) as before:
            assert (await before.ask(1, row(1, 2, 3, 4)))[0].kind == frames.RESULT
            await bench.route.unload(30)
            with pytest.raises(asyncio.IncompleteReadError):
                await before.frame()
        async with calling(address) as caller:
            head, _, body = await caller.frame()
            assert (head.kind, head.id, json.loads(body)["code"]) == (frames.ERROR, 0, "starting")
        await bench.route.serve(release)
        assert (await ask_all(address, [row(1, 2, 3, 4)]))[0][0].kind == frames.RESULT

    play(scenario)


def test_requests_that_are_alike_are_answered_as_those_that_are_not(play: Play) -> None:
    """Of one row and of two, with NaN and without, in one stream: each gets its own answer, and its own flag."""

    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.identity())
        live = bench.route.live
        assert live is not None
        async with calling(address) as caller:
            for _ in range(3):
                arrays = [row(number, 0, 0, 0) for number in range(40)]
                arrays[7] = np.array([[7, 1, 2, 3], [8, 1, 2, 3]], np.float32)
                arrays[9][0, 2] = np.nan
                arrays[30] = np.zeros((1, 3), np.float32)
                caller.send(*(request(number, array) for number, array in enumerate(arrays)))
                for number, array in enumerate(arrays):
                    head, _, body = await caller.frame()
                    assert head.id == number
                    assert head.kind == (frames.ERROR if number == 30 else frames.RESULT)
                    assert bool(head.flags & frames.NONFINITE) is (number == 9)
                    if number != 30:
                        tensor = frames.read_body(frames.described(body)).tensors[0]
                        assert tensor.shape == array.shape
                        found = np.frombuffer(body, np.float32, offset=tensor.start).reshape(tensor.shape)
                        np.testing.assert_array_equal(found, array)
        await bench.until(lambda: bench.counters.outcomes["ok"] == 117)
        assert live.tally.nonfinite == 3
        assert max(bench.counters.runs) > 1, "some shared a run"

    play(scenario)


def test_garbage_ends_no_worker(play: Play) -> None:
    """Good frames with some bytes changed, cut anywhere, and bytes without sense: each client for itself."""

    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.identity())
        live, rng = bench.route.live, np.random.default_rng(5)
        for _ in range(150):
            data = bytearray(b"".join(request(number, row(1, 2, 3, 4)) for number in range(3)))
            for _ in range(rng.integers(0, 6)):
                data[rng.integers(0, len(data))] = rng.integers(0, 256)
            data = data[: rng.integers(0, len(data) + 1)] + rng.bytes(int(rng.integers(0, 40)))
            async with calling(address) as caller:
                with contextlib.suppress(ConnectionError):
                    caller.send(bytes(data))
                    await caller.writer.drain()
            assert len(await ask_all(address, [row(1, 2, 3, 4)])) == 1
        assert bench.route.live is live
        assert bench.counters.restarts == 0

    play(scenario)


def test_who_is_told_to_leave_and_at_once_to_stay_serves_on(play: Play) -> None:
    """As when a model is loaded again while it is being unloaded, or a switch goes back."""

    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.identity())
        live, door = bench.route.live, bench.route.door
        assert live is not None
        for number in range(3):
            assert len(await ask_all(address, [row(number, 0, 0, 0)])) == 1
            door.serve_by(None)
            door.serve_by(live)
        assert len(await asyncio.wait_for(ask_all(address, [row(1, 2, 3, 4)]), 10)) == 1
        assert bench.route.live is live
        assert bench.counters.restarts == 0

    play(scenario)


def test_who_was_told_new_terms_serves_again_after_it_has_left(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        address = await serve(bench, models.identity())
        live, door = bench.route.live, bench.route.door
        assert live is not None
        assert len(await ask_all(address, [row(1, 2, 3, 4)])) == 1
        for _ in range(5):
            door.adopt(bench.route.settings)
        door.serve_by(None)
        await door.left()
        door.serve_by(live)
        assert len(await asyncio.wait_for(ask_all(address, [row(1, 2, 3, 4)]), 10)) == 1
        assert bench.route.live is live
        assert bench.counters.restarts == 0

    play(scenario)
