"""RULES 7: others touch the route while its live process is about to end for want of memory, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edged.config.schema import Batch, Limits, Model
from edged.config.units import Duration
from edged.delivery.examiner import examine
from edged.delivery.record import Record
from edged.delivery.renewal import prepare
from edged.delivery.shelf import Shelf
from edged.delivery.store import Store
from edged.errors import EdgedError
from edged.messages import Answer
from edged.serving.generation import Generation
from tests import models
from tests.integration.serving.conftest import Bench
from tests.integration.serving.test_room import Memory, refuse

Play = Callable[..., None]
LONG = b"[300000]"
ENDLESS = b"[200000000]"
ONE_AT_A_TIME = Model("m", swap="stop_start", limits=Limits(run=Duration(60)), batch=Batch(max=1))


@pytest.fixture
def memory() -> Memory:
    return Memory()


def live(bench: Bench) -> Generation:
    assert bench.route.live is not None
    return bench.route.live


async def making_room(bench: Bench, memory: Memory) -> asyncio.Task[None]:
    """Somebody waits until nothing is in flight, to end the live process then."""
    memory.available = 1
    room = asyncio.ensure_future(bench.route.make_room(bench.release(models.counting(), 9)))
    await asyncio.sleep(0)
    assert not room.done()
    return room


def test_a_resume_takes_the_place_back(play: Play, memory: Memory) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        running = bench.send(LONG)
        room = await making_room(bench, memory)
        bench.route.resume()
        with pytest.raises(EdgedError, match="superseded"):
            await asyncio.wait_for(room, 10)
        assert isinstance(await running, Answer)
        assert isinstance(await bench.send(b"[1]"), Answer)

    play(scenario, ONE_AT_A_TIME, available=memory)


def test_only_one_makes_room_at_a_time(play: Play, memory: Memory) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        running = bench.send(LONG)
        room = await making_room(bench, memory)
        with pytest.raises(EdgedError, match="busy"):
            await bench.route.make_room(bench.release(models.counting(), 8))
        assert isinstance(await running, Answer)
        await asyncio.wait_for(room, 30)
        assert bench.route.live is None
        bench.route.resume()
        assert isinstance(await bench.send(b"[1]"), Answer)

    play(scenario, ONE_AT_A_TIME, available=memory)


def test_a_reload_that_comes_meanwhile_is_refused_and_takes_no_place_back(
    play: Play, memory: Memory, tmp_path: Path
) -> None:
    async def scenario(bench: Bench) -> None:
        first = bench.release(models.counting())
        await bench.route.serve(first)
        running = bench.send(LONG)
        room = await making_room(bench, memory)
        shelf = Shelf("m", first.file, Store(tmp_path))
        changed = msgspec.structs.replace(ONE_AT_A_TIME, file=first.file, threads=2)
        with pytest.raises(EdgedError, match="busy"):
            await prepare(bench.route, shelf, Record(), changed)
        assert not room.done()
        assert isinstance(await running, Answer)
        await asyncio.wait_for(room, 30)
        bench.route.resume()
        assert isinstance(await bench.send(b"[1]"), Answer)

    play(scenario, ONE_AT_A_TIME, available=memory)


def test_ota_F44_a_switch_takes_the_place_and_loses_nothing(play: Play, memory: Memory) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        candidate = await bench.route.start(bench.release(models.counting(), 2))
        inputs = [bench.send(LONG) for _ in range(4)]
        room = await making_room(bench, memory)
        await bench.route.switch(candidate)
        with pytest.raises(EdgedError, match="superseded"):
            await asyncio.wait_for(room, 10)
        assert all(isinstance(one, Answer) for one in await asyncio.gather(*inputs))
        assert live(bench) is candidate

    play(scenario, ONE_AT_A_TIME, available=memory)


def test_a_process_that_takes_over_from_a_low_one_leaves_the_place(
    play: Play, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RULES 6 meets RULES 7: the fresh process is not used, and the inputs wait for who the room is made for."""
    monkeypatch.setattr(os, "setpriority", refuse)

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        candidate = await bench.route.start(bench.release(models.counting(), 2), candidate=True)
        await bench.route.switch(candidate)
        renewal = bench.route._succession._task
        assert renewal is not None
        assert not renewal.done()
        inputs = [bench.send(LONG) for _ in range(4)]
        await asyncio.wait_for(await making_room(bench, memory), 30)
        await asyncio.wait({renewal}, timeout=30)
        assert bench.route.live is None
        bench.route.resume()
        assert all(isinstance(one, Answer) for one in await asyncio.gather(*inputs))

    play(scenario, ONE_AT_A_TIME, available=memory)


def test_who_stops_waiting_for_room_leaves_nothing_behind(play: Play, memory: Memory) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        first = live(bench)
        running = bench.send(LONG)
        (await making_room(bench, memory)).cancel()
        assert isinstance(await running, Answer)
        assert isinstance(await bench.send(b"[1]"), Answer)  # not paused for ever
        room = asyncio.ensure_future(bench.route.make_room(bench.release(models.counting(), 9)))
        await bench.until(lambda: bench.route.live is None)
        room.cancel()
        await bench.until(lambda: first._worker._pidfd < 0)  # it was seen to its end
        bench.route.resume()
        assert isinstance(await bench.send(b"[1]"), Answer)

    play(scenario, ONE_AT_A_TIME, available=memory)


def test_room_is_made_at_no_candidates_expense(play: Play, memory: Memory) -> None:
    """A trial under way goes on: its process is not the one that answers, and its file is no worse for it."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        for _ in range(4):
            await bench.send(LONG)
        release = bench.release(models.counting(), 2)
        trial = asyncio.ensure_future(examine(bench.route, release, factor=100, clock=time.monotonic))
        processes = bench.route.processes
        await bench.until(lambda: len(list(processes)) == 2 and all(one.facts for one in processes))
        candidate = next(one for one in processes if one is not bench.route.live)
        memory.available = 1
        await bench.route.make_room(bench.release(models.counting(), 9))
        assert candidate.alive
        problem = (await asyncio.wait_for(trial, 100)).judgement.fault
        assert problem is None or problem.code != "trial_crash"

    play(scenario, ONE_AT_A_TIME, available=memory)


def test_what_is_warm_stays_warm_when_a_low_process_dies_before_its_successor_takes_over(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RULES 6, in probation: else the way back would have to load what it goes back to."""
    monkeypatch.setattr(os, "setpriority", refuse)

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        before = live(bench)
        low = await bench.route.start(bench.release(models.counting(), 2), candidate=True)
        await bench.route.switch(low)
        running = bench.send(ENDLESS)
        await bench.until(lambda: bench.route._next is not None, 30)
        low.kill()
        await bench.until(lambda: bench.route.live not in (None, low))
        assert before.alive
        assert bench.route.previous is before
        running.cancel()

    play(scenario, Model("m", limits=Limits(run=Duration(60))))
