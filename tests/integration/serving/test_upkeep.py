"""What keeps one model answering whatever ends, and what it may not hold on to (RULES 12, 13, 24)."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import time
from collections.abc import Callable

import msgspec
import pytest

from edged.channel import InputHead
from edged.config.schema import Batch, Limits, Model
from edged.config.schema import Input as Entry
from edged.config.steps import Form
from edged.config.units import Duration, Size
from edged.errors import EdgedError, Fault
from edged.messages import Answer, Input, Outcome, Source
from edged.serving.deaths import Deaths
from edged.serving.generation import Generation
from edged.serving.release import Release
from edged.serving.starter import Starter, Worker
from tests import models
from tests.integration.serving.conftest import Bench

Play = Callable[..., None]
ONE_SCAN = json.dumps([1.0, 2.0, 3.0, 4.0]).encode()
ENDLESS_TURNS = b"[9000000000000000]"


def test_a_release_that_is_wanted_comes_when_the_one_before_it_has_ended(play: Play) -> None:
    """The way back where nothing else works: it is asked for while the bad one still answers."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        bad = bench.route.live
        assert bad is not None
        await bench.route.serve(bench.release(models.linear(seed=1), 2))
        bad.kill()
        outcome = await asyncio.wait_for(bench.send(ONE_SCAN), 30)
        assert isinstance(outcome, Answer)
        assert outcome.version == "2"

    play(scenario)


def test_a_model_that_is_loaded_again_and_again_in_vain_is_tried_by_one(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each load is a try at once; what goes on behind it must not be as many as there were loads."""

    async def scenario(bench: Bench) -> None:
        tries, loads, in_vain = 0, 0, True

        async def start(release: Release, *_: object) -> Generation:
            nonlocal tries, loads
            tries += 1
            if in_vain:
                raise EdgedError("not_a_model", f"{release.file} is none")
            loads += 1
            never: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
            return await never

        monkeypatch.setattr(bench.route, "start", start)
        monkeypatch.setattr(Deaths, "pause_s", lambda _: 0.0)
        release = bench.release(b"no model")
        for number in range(3):
            await bench.route.serve(release)
            assert tries > number
        in_vain = False
        for _ in range(20):
            await asyncio.sleep(0)
        assert loads == 1

    play(scenario)


def test_a_worker_that_ends_before_it_is_told_what_to_load(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = Starter._launch

    def ended(starter: Starter, name: str, candidate: bool) -> Worker:
        worker = launch(starter, name, candidate)
        worker.kill()
        worker.process.join()
        return worker

    async def scenario(bench: Bench) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Starter, "_launch", ended)
            with pytest.raises(EdgedError, match="trial_crash"):
                await bench.route.start(bench.release(models.linear()))

    play(scenario)


def test_a_process_that_has_ended_leaves_no_descriptor(play: Play) -> None:
    """Nor waits for Python's collector, which comes by seldom in a daemon that makes few objects."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - their number

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        before = descriptors()
        for _ in range(3):
            live = bench.route.live
            assert live is not None
            live.kill()
            outcome = await asyncio.wait_for(bench.send(ONE_SCAN), 30)
            assert isinstance(outcome, Answer)
        await bench.until(lambda: descriptors() <= before)

    gc.disable()
    try:
        play(scenario)
    finally:
        gc.enable()


def test_both_generations_of_a_switch_end(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        candidate = await bench.route.start(bench.release(models.counting(), 2))
        running = bench.send(b"[300000]")
        switch = asyncio.ensure_future(bench.route.switch(candidate))
        await asyncio.sleep(0)
        candidate.kill()
        await bench.until(lambda: not candidate.alive)
        assert bench.route.live is not None
        bench.route.live.kill()
        with pytest.raises(EdgedError, match="trial_crash"):
            await switch
        outcome = await asyncio.wait_for(running, 60)
        assert isinstance(outcome, Answer)
        assert outcome.version == "1"

    play(scenario, Model("m", limits=Limits(run=Duration(30))))


def test_who_waits_for_a_switch_is_told_that_another_one_took_its_place(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        overtaken = await bench.route.start(bench.release(models.counting(), 2))
        candidate = await bench.route.start(bench.release(models.counting(), 3))
        running = bench.send(b"[300000]")
        first = asyncio.ensure_future(bench.route.switch(overtaken))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(bench.route.switch(candidate))
        with pytest.raises(EdgedError, match="superseded"):
            await asyncio.wait_for(first, 30)
        await asyncio.wait_for(second, 60)
        assert isinstance(await running, Answer)
        assert bench.route.live is candidate

    play(scenario, Model("m", limits=Limits(run=Duration(30))))


def test_a_stop_ends_a_generation_that_nobody_took(play: Play) -> None:
    """A trial or a switch that is cancelled at the wrong moment leaves one."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        left = await bench.route.start(bench.release(models.linear(seed=1), 2))
        async with asyncio.timeout(30):
            await bench.route.stop()
        assert not left.alive
        with pytest.raises(ProcessLookupError):
            os.kill(left.pid, 0)

    play(scenario)


def test_inputs_behind_a_probe_that_ends_the_process_keep_their_order(play: Play) -> None:
    """RULES 13 and 15: none of them is suspect, and both batches go back to the head of the lane."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        live = bench.route.live
        assert live is not None
        assert live.submit([InputHead(len(ENDLESS_TURNS))], [ENDLESS_TURNS], lambda *_: None, probe=True)
        ended: list[int] = []
        sent = [bench.send(b"[3]") for _ in range(4)]
        for number, one in enumerate(sent):
            one.add_done_callback(lambda _, number=number: ended.append(number))  # type: ignore[misc]
        await bench.until(lambda: len(live.flights) == 3)
        live.kill()
        outcomes = await asyncio.wait_for(asyncio.gather(*sent), 30)
        assert [isinstance(one, Answer) and one.retried for one in outcomes] == [False] * 4
        assert ended == [0, 1, 2, 3]

    play(scenario, Model("m", batch=Batch(max=1), limits=Limits(run=Duration(600))))


def test_an_input_that_runs_again_under_other_settings_keeps_its_form(play: Play) -> None:
    """Its number is another one by then."""
    first, second = (Entry(name, form=Form(format="values", fields=(name,))) for name in ("first", "second"))

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        live = bench.route.live
        assert live is not None
        assert live.submit([InputHead(len(ENDLESS_TURNS))], [ENDLESS_TURNS], lambda *_: None, probe=True)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        bench.route.offer(Input("m", b'{"first": [3]}', Source.HTTP, outcome.set_result, time.monotonic(), form=0))
        await bench.until(lambda: len(live.flights) == 2)
        bench.route.adopt(bench.route.terms.changed(msgspec.structs.replace(settings, inputs=(second, first))))
        live.kill()
        assert isinstance(await asyncio.wait_for(outcome, 30), Answer)

    settings = Model("m", inputs=(first,), limits=Limits(run=Duration(600)))
    play(scenario, settings)


def test_a_model_that_was_unloaded_in_the_middle_of_a_run_comes_back(play: Play) -> None:
    """By a load, and by a switch that had waited for the end of that run: what was given up is in nobody's way."""

    async def unloaded_while_it_runs(bench: Bench) -> None:
        running = [bench.send(ENDLESS_TURNS), bench.send(ENDLESS_TURNS)]
        await bench.until(lambda: bench.route.live is not None and len(bench.route.live.flights) == 2)
        await bench.route.unload(0.01)
        for one in running:
            outcome = await asyncio.wait_for(one, 30)
            assert isinstance(outcome, Fault)
            assert outcome.code == "starting"

    async def scenario(bench: Bench) -> None:
        first = bench.release(models.counting())
        await bench.route.serve(first)
        await unloaded_while_it_runs(bench)
        await bench.route.serve(first)
        outcome = await asyncio.wait_for(bench.send(b"[3]"), 30)
        assert isinstance(outcome, Answer)
        candidate = await bench.route.start(bench.release(models.counting(), 2))
        endless = bench.send(ENDLESS_TURNS)
        switch = asyncio.ensure_future(bench.route.switch(candidate))
        await asyncio.sleep(0)
        await bench.route.unload(0.01)
        await asyncio.wait_for(switch, 30)
        assert isinstance(await endless, Fault)
        outcome = await asyncio.wait_for(bench.send(b"[3]"), 30)
        assert isinstance(outcome, Answer)
        assert outcome.version == "2"

    play(scenario, Model("m", limits=Limits(run=Duration(600))))


def test_hung_workers_are_ended_in_one_common_second(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """RULES 5: the channels are closed, one second is waited for all, then they are killed, which is told as ours."""
    hung = 8

    async def scenario(bench: Bench) -> None:
        generations = [await bench.route.start(bench.release(models.counting())) for _ in range(hung)]
        for one in generations:
            assert one.submit([InputHead(len(ENDLESS_TURNS))], [ENDLESS_TURNS], lambda _answers, _payload: None)
        async with asyncio.timeout(hung / 2):  # one after the other they took a second each
            await bench.route.stop()
        assert not any(one.alive for one in generations)
        for one in generations:
            with pytest.raises(ProcessLookupError):
                os.kill(one.pid, 0)
        assert caplog.text.count("was ended: it did not end by itself within 1 s") == hung

    play(scenario, Model("m", limits=Limits(run=Duration(600))))


@pytest.mark.parametrize(("end", "faults", "crashes"), [(ENDLESS_TURNS, 2, 0), (None, 0, 1)])
def test_each_end_of_a_live_process_is_one_fault_of_its_release(
    play: Play, end: bytes | None, faults: int, crashes: int
) -> None:
    """RULES 26: a run past its limit is a fault, not a crash as well; an end by itself is a crash."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        first = bench.route.live
        assert first is not None
        if end is None:
            os.kill(first.pid, 11)
            await bench.until(lambda: not first.alive)
        else:
            problem = await bench.send(end)  # twice, the second time alone
            assert isinstance(problem, Fault)
        assert (first.tally.faults, first.tally.crashes) == (faults, crashes)

    play(scenario, Model("m", limits=Limits(run=Duration(0.3))))


def test_suspects_run_though_a_probe_is_under_way(play: Play) -> None:
    """Nothing that is offered later, and no deadline, has to set them going again."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        first = bench.route.live
        assert first is not None
        bench.route.feeder.pause()
        suspects = [bench.send(ONE_SCAN) for _ in range(16)]
        os.kill(first.pid, signal.SIGSTOP)  # it answers none of them
        bench.route.feeder.use(first)
        first.kill()

        def probe(_model: str) -> None:
            """Right behind the first suspect."""
            assert bench.route.live is not None
            head = InputHead(len(ONE_SCAN))
            assert bench.route.live.submit([head], [ONE_SCAN], lambda _answers, _payload: None, probe=True)

        bench.route.on_change = probe
        outcomes = await asyncio.wait_for(asyncio.gather(*suspects), 30)
        assert sum(one.retried for one in outcomes if isinstance(one, Answer)) == 16

    play(scenario)


def test_what_is_kept_for_a_trial_is_bounded_by_its_bytes(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.identity(shape=("batch", "n"))))
        payload = json.dumps([0.5] * 300_000).encode()  # 1.5 MB
        for _ in range(4):
            assert isinstance(await bench.send(payload), Answer)
        assert len(bench.route.feeder._recent._kept) == 2

    play(scenario, Model("m", limits=Limits(memory=Size(2**30), run=Duration(30))))


def test_an_input_that_ends_processes_is_not_kept_for_a_trial(play: Play) -> None:
    """It would end the live one and the candidate of every trial to come."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        assert isinstance(await bench.send(b"[1]"), Answer)
        problem = await bench.send(ENDLESS_TURNS)
        assert isinstance(problem, Fault)
        assert problem.code == "poison_input"
        assert isinstance(await bench.send(b"[2]"), Answer)
        assert [payload for _, payload in bench.route.recent()] == [b"[1]", b"[2]"]

    play(scenario, Model("m", limits=Limits(run=Duration(0.3))))


def test_what_a_reply_raises_is_not_laid_on_the_worker(play: Play) -> None:
    """It is a bug of ours: told, counted, and no reason to end a process (RULES 23)."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        live = bench.route.live

        def reply(_outcome: Outcome) -> None:
            raise OSError("a bug of ours")

        bench.route.offer(Input("m", ONE_SCAN, Source.HTTP, reply, time.monotonic()))
        await bench.until(lambda: bench.counters.faults)
        assert bench.counters.faults == {"reply": 1}
        assert bench.route.live is live
        assert isinstance(await bench.send(ONE_SCAN), Answer)

    play(scenario)


def test_a_bug_while_a_model_is_started_again_is_told_at_once(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        told = list[object]()
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))
        problem = ValueError("a bug of ours")

        def launch(_starter: Starter, *_: object) -> Worker:
            raise problem

        monkeypatch.setattr(Starter, "_launch", launch)
        assert bench.route.live is not None
        bench.route.live.kill()
        await bench.until(lambda: told)
        assert told == [problem]

    play(scenario)
