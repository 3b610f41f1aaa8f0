"""What a process may have of the box beside others: priority and memory, on real processes (RULES 6, 7)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edged.channel import Open
from edged.config.schema import Limits, Model
from edged.config.units import Duration, Size
from edged.delivery.examiner import examine
from edged.errors import EdgedError, Fault
from edged.messages import Answer, Outcome, Source
from edged.serving import priority, terms
from edged.worker import entry
from tests import models
from tests.integration.serving.conftest import Bench

Play = Callable[..., None]
GROUPS_SESSIONS = Path("/proc/self/autogroup").exists()  # "0" in kernel.sched_autogroup_enabled: the file stays
ONE_SCAN = json.dumps([1.0, 2.0, 3.0, 4.0]).encode()


def nice(pid: int) -> set[int]:
    """The priorities of a process's threads, against that of the tests."""
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    return {os.getpriority(os.PRIO_PROCESS, int(one.name)) - ours for one in Path(f"/proc/{pid}/task").iterdir()}


def nice_session(pid: int) -> int:
    """Of a process."""
    return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])


def oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def refuse(_who: int, _pid: int, _priority: int) -> None:
    raise PermissionError


# --- RULES 6 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_a_candidate_loads_behind_everything_else(play: Play, threads: int) -> None:
    """RULES 6 and 7: each of its threads, until it answers; and the kernel would kill it before a live one."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        assert bench.route.live is not None
        assert nice(bench.route.live.pid) == {0}
        assert oom_score(bench.route.live.pid) == entry.OOM_SCORE
        candidate = await bench.route.start(bench.release(models.linear(seed=1), 2), candidate=True)
        assert nice(candidate.pid) == {entry.CANDIDATES_ARE_NICER_BY}
        if GROUPS_SESSIONS:
            assert nice_session(bench.route.live.pid) == 0
            assert nice_session(candidate.pid) == entry.CANDIDATES_ARE_NICER_BY
        # Sessions of their own: workers in one would wait for each other where the kernel shares the CPU among them.
        assert [os.getsid(one) for one in (bench.route.live.pid, candidate.pid)] == [
            bench.route.live.pid,
            candidate.pid,
        ]
        assert oom_score(candidate.pid) == entry.OOM_SCORE_OF_CANDIDATES
        when_it_answers: list[set[int]] = []
        await bench.route.switch(candidate, lambda: when_it_answers.append(nice(candidate.pid)))
        assert when_it_answers == [{0}]
        live = bench.route.live
        await bench.until(lambda: live is not None and not live.low)
        assert bench.route.live is not None
        assert nice(bench.route.live.pid) == {0}
        assert not GROUPS_SESSIONS or nice_session(bench.route.live.pid) == 0
        assert oom_score(bench.route.live.pid) == entry.OOM_SCORE

    play(scenario, Model("m", threads=threads))


def test_a_priority_that_stays_low_is_left_for_a_fresh_process(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES 6, not as root. The figures of the release go on, what was warm stays warm, nothing is lost."""
    monkeypatch.setattr(os, "setpriority", refuse)

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        before = bench.route.live
        candidate = await bench.route.start(bench.release(models.linear(seed=1), 2), candidate=True)
        await bench.route.switch(candidate)
        answers: list[Outcome] = []
        while bench.route.live is candidate:
            answers.append(await bench.send(ONE_SCAN))
        live = bench.route.live
        assert live is not None
        assert nice(live.pid) == {0}
        assert live.tally is candidate.tally
        assert live.release.version == "2"
        assert bench.route.previous is before
        assert before is not None
        assert before.alive
        answers.append(await bench.send(ONE_SCAN))
        assert {one.version for one in answers if isinstance(one, Answer)} == {"2"}
        assert all(isinstance(one, Answer) for one in answers)
        assert not candidate.alive
        assert bench.counters.restarts == 0

    play(scenario)


def test_going_back_while_the_fresh_process_loads_wins(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES 6: a rollback in that moment is not undone by it."""
    monkeypatch.setattr(os, "setpriority", refuse)

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        before = bench.route.live
        assert before is not None
        await bench.route.switch(await bench.route.start(bench.release(models.linear(seed=1), 2), candidate=True))
        renewal = bench.route._succession._task
        assert renewal is not None
        await bench.route.switch(before)
        await asyncio.wait({renewal}, timeout=30)
        assert bench.route.live is before
        outcome = await bench.send(ONE_SCAN)
        assert isinstance(outcome, Answer)
        assert outcome.version == "1"
        await bench.until(lambda: len([one for one in bench.route.processes if one.alive]) == 2)

    play(scenario)


def test_restoring_what_has_ended_asks_for_no_fresh_process(play: Play) -> None:
    """RULES 6."""

    async def scenario(bench: Bench) -> None:
        candidate = await bench.route.start(bench.release(models.linear()), candidate=True)
        candidate.kill()
        await bench.until(lambda: not candidate.alive and not Path(f"/proc/{candidate.pid}").exists())
        assert priority.restore(candidate.pid)

    play(scenario)


# --- RULES 7 ------------------------------------------------------------------------------------------


def test_the_second_line_ends_a_process_above_its_limit(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """RULES 7: where RLIMIT_DATA does not bind, as on a GPU, what the process really holds is looked at each second."""

    def unlimited(**fields: Any) -> Open:
        return Open(**{**fields, "memory": 2**40})

    monkeypatch.setattr(terms, "Open", unlimited)

    async def scenario(bench: Bench) -> None:
        problem: Fault | None
        try:
            generation = await bench.route.start(bench.release(models.gather(rows=2**24)))  # 192 MiB of weights
        except EdgedError as error:  # it was looked at while it was loading
            problem = error.fault
        else:
            await bench.until(lambda: not generation.alive)
            problem = generation.reason
        assert problem is not None
        assert problem.code == "over_memory"
        assert "32 MiB are allowed" in problem.message

    play(scenario, Model("m", limits=Limits(memory=Size(32 * 2**20), run=Duration(60))))


class Memory:
    """What the box is said to have. A box with little memory cannot be had in a test."""

    available: int | None = 2**40

    def __call__(self) -> int | None:
        return self.available


def test_ota_F44_no_room_for_two_refuses_the_candidate(play: Play) -> None:
    """RULES 7, `swap: parallel`."""
    memory = Memory()

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        live = bench.route.live
        release = bench.release(models.linear(seed=1), 2)
        memory.available = 3 * len(models.linear(seed=1)) + 64 * 2**20 - 1
        examined = await examine(bench.route, release, factor=3, clock=asyncio.get_running_loop().time)
        assert examined.candidate is None
        assert examined.judgement.fault is not None
        assert examined.judgement.fault.code == "no_space"
        assert "stop_start" in examined.judgement.fault.hint
        assert bench.route.live is live
        assert isinstance(await bench.send(ONE_SCAN), Answer)
        memory.available += 1
        examined = await examine(bench.route, release, factor=3, clock=asyncio.get_running_loop().time)
        assert examined.candidate is not None

    play(scenario, available=memory)


def test_ota_F44_no_room_for_two_ends_the_live_one_first(play: Play) -> None:
    """RULES 7, `swap: stop_start`: what is sent meanwhile waits; never two processes at once."""
    memory = Memory()

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        old = bench.route.live
        assert old is not None
        memory.available = 1
        running = bench.send(ONE_SCAN)
        trial = asyncio.ensure_future(
            examine(
                bench.route, bench.release(models.linear(seed=1), 2), factor=3, clock=asyncio.get_running_loop().time
            )
        )
        await bench.until(lambda: not old.alive)
        first = await running
        assert isinstance(first, Answer)
        assert first.version == "1"
        waiting = [bench.send(ONE_SCAN, source) for source in (Source.HTTP, Source.MQTT_QOS1)]
        examined = await trial
        assert examined.candidate is not None
        assert examined.judgement.flags == ("untested",)
        assert nice(examined.candidate.pid) == {0}, "everybody waits for it"
        await bench.route.switch(examined.candidate)
        for one in waiting:
            outcome = await one
            assert isinstance(outcome, Answer)
            assert outcome.version == "2"
        assert bench.counters.restarts == 0

    play(scenario, Model("m", swap="stop_start"), available=memory)


def test_the_old_one_comes_back_when_the_candidate_is_no_good(play: Play) -> None:
    """RULES 7, `swap: stop_start`."""
    memory = Memory()

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        memory.available = 1
        release = bench.release(b"no model", 2)
        examined = await examine(bench.route, release, factor=3, clock=asyncio.get_running_loop().time)
        assert examined.candidate is None
        assert bench.route.live is None
        waiting = bench.send(ONE_SCAN, Source.MQTT_QOS1)
        bench.route.resume()
        outcome = await waiting
        assert isinstance(outcome, Answer)
        assert outcome.version == "1"

    play(scenario, Model("m", swap="stop_start"), available=memory)


def test_a_live_process_that_dies_while_it_is_ended_for_another_is_not_started_again(play: Play) -> None:
    """RULES 7, `swap: stop_start`: its input waits for whoever answers next."""
    memory = Memory()

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        old = bench.route.live
        assert old is not None
        memory.available = 1
        running = bench.send(b"[2000000]")
        room = asyncio.ensure_future(bench.route.make_room(bench.release(models.counting(), 2)))
        await asyncio.sleep(0)
        old.kill()
        await room
        assert [one for one in bench.route.processes if one.alive] == []
        bench.route.resume()
        outcome = await running
        assert isinstance(outcome, Answer)
        assert outcome.retried

    play(scenario, Model("m", swap="stop_start", limits=Limits(run=Duration(60))), available=memory)


def test_no_room_says_why_to_who_asks_for_the_version_before(play: Play) -> None:
    """RULES 7: a rollback whose process is not warm any more."""
    memory = Memory()

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        memory.available = 0
        with pytest.raises(EdgedError, match="no_space"):
            await bench.route.make_room(bench.release(models.linear(seed=1), 2))
        memory.available = None  # the box does not tell: then one tries
        await bench.route.make_room(bench.release(models.linear(seed=1), 2))
        assert isinstance(await bench.send(ONE_SCAN), Answer)
        assert not isinstance(bench.route.fault, Fault)

    play(scenario, available=memory)
