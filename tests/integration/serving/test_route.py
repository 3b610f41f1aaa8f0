"""Routes on real worker processes: batches, deaths, deadlines, switches (RULES 10, 13, 14, 15)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.config.schema import Batch, Limits, Model, Queue
from edged.config.units import Duration, Size
from edged.errors import EdgedError, Fault
from edged.messages import Answer, Outcome, Source
from tests import models
from tests.integration.serving.conftest import Bench

Play = Callable[..., None]
ONE_SCAN = json.dumps([1.0, 2.0, 3.0, 4.0]).encode()
ENDLESS_TURNS = b"[9000000000000000]"


def values(outcome: Outcome) -> list[float]:
    assert isinstance(outcome, Answer), outcome
    found: list[float] = json.loads(outcome.payload)["outputs"][0]["data"]
    return found


def test_inputs_that_wait_share_a_run_and_get_their_own_rows(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        assert bench.route.live is not None
        assert bench.route.live.facts is not None
        assert bench.route.live.facts.batch_max == 16
        inputs = [[float(n), 1.0, 2.0, 3.0] for n in range(60)]
        alone = [values(await bench.send(json.dumps(one).encode())) for one in inputs[:5]]
        together = await asyncio.gather(*(bench.send(json.dumps(one).encode()) for one in inputs))
        for one, other in zip(alone, together, strict=False):
            assert values(other) == pytest.approx(one, rel=1e-5)

    play(scenario)


def test_what_comes_in_one_turn_of_the_loop_shares_a_batch(play: Play) -> None:
    """The first goes at once, the others behind it together: not one more alone only because there is room for two."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        live = bench.route.live
        assert live is not None
        inputs = [bench.send(ONE_SCAN) for _ in range(9)]
        assert [flight.inputs for flight in live.flights] == [1]
        await asyncio.sleep(0)
        assert [flight.inputs for flight in live.flights][-1] == 8
        assert all(isinstance(one, Answer) for one in await asyncio.gather(*inputs))

    play(scenario)


def test_a_bad_input_in_a_batch_fails_alone(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.gather(rows=10)))
        payloads = (b"[3, 1]", b"[99, 1]", b"[4, 1]", b"nonsense")
        outcomes = await asyncio.gather(*map(bench.send, payloads))
        assert [isinstance(one, Answer) for one in outcomes] == [True, False, True, False]
        assert [one.code for one in outcomes if isinstance(one, Fault)] == ["bad_input", "bad_input"]
        assert bench.route.live is not None
        assert bench.route.live.tally.faults == 0  # a sender's mistake is not the model's

    play(scenario)


def test_a_graph_that_mixes_rows_is_never_stacked(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.whole_batch()))
        assert bench.route.live is not None
        assert bench.route.live.facts is not None
        assert bench.route.live.facts.batch_max == 1

    play(scenario)


@pytest.mark.parametrize("size", [60_000, 65_000, 65_536, 65_600, 400_000])
def test_payloads_on_both_sides_of_a_message(play: Play, size: int) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.identity(shape=("batch", "n"))))
        rows = size // 8
        outcome = await bench.send(json.dumps([0.5] * rows).encode())
        assert values(outcome) == [0.5] * rows

    play(scenario, Model("m", limits=Limits(memory=Size(2**30))))


def test_kill_9_of_the_worker_loses_nothing(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        futures: list[asyncio.Future[Outcome]] = []
        for _ in range(10):
            # More than a hundred answers between two deaths: somebody's kill is not the model's fault.
            for _ in range(4):
                futures += [bench.send(ONE_SCAN) for _ in range(50)]
                await asyncio.gather(*futures[-50:])
            futures += [bench.send(ONE_SCAN) for _ in range(50)]
            assert bench.route.live is not None
            os.kill(bench.route.live.pid, 9)
            await bench.until(lambda: bench.route.live is not None)
        outcomes = await asyncio.gather(*futures)
        assert {type(one) for one in outcomes} == {Answer}
        assert bench.counters.restarts == 10
        assert any(one.retried for one in outcomes if isinstance(one, Answer))

    play(scenario, Model("m", queue=Queue(size=200)))


def test_an_input_that_never_ends_is_poison_and_the_others_are_answered(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        harmless = [bench.send(b"[3]") for _ in range(3)]
        poison = bench.send(ENDLESS_TURNS)
        after = [bench.send(b"[4]") for _ in range(5)]
        problem = await poison
        assert isinstance(problem, Fault)
        assert problem.code == "poison_input"
        assert "took longer" in problem.message
        assert [values(await one) for one in harmless] == [[3.0]] * 3
        assert [values(await one) for one in after] == [[4.0]] * 5
        assert bench.route.fault is None

    play(scenario, Model("m", limits=Limits(run=Duration(0.3))))


def test_three_deaths_make_the_model_failed_and_it_comes_back(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        for _ in range(3):
            await bench.until(lambda: bench.route.live is not None)
            assert bench.route.live is not None
            os.kill(bench.route.live.pid, 9)
            await bench.until(lambda: bench.route.live is None)
        problem = await bench.send(ONE_SCAN)
        assert isinstance(problem, Fault)
        assert problem.code == "model_failed"
        waiting = bench.send(ONE_SCAN, Source.MQTT_QOS1)  # what can wait does
        assert isinstance(await asyncio.wait_for(waiting, 30), Answer)

    play(scenario)


def test_a_deadline_answers_the_sender_and_the_late_answer_is_counted(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        slow = bench.send(b"[4000000]", deadline_s=0.05)
        queued = [bench.send(b"[1]", deadline_s=0.05) for _ in range(3)]
        patient = bench.send(b"[2]")
        assert [one.code for one in await asyncio.gather(slow, *queued) if isinstance(one, Fault)] == ["deadline"] * 4
        assert values(await patient) == [2.0]
        assert bench.counters.drops["late"] >= 1
        assert bench.counters.outcomes["deadline"] == 4

    play(scenario, Model("m", batch=Batch(max=1), limits=Limits(run=Duration(30))))


def test_results_keep_the_order_of_their_inputs_through_twenty_switches(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear(seed=0)))
        order: list[int] = []
        sent = 0
        for version in range(2, 22):
            generation = await bench.route.start(bench.release(models.linear(seed=version), version))
            for _ in range(40):
                bench.send(ONE_SCAN).add_done_callback(lambda _done, number=sent: order.append(number))  # type: ignore[misc]
                sent += 1
            await bench.route.switch(generation)
            assert bench.route.previous is not None
            await bench.route.retire(bench.route.previous)
        await bench.until(lambda: len(order) == sent)
        assert order == list(range(sent))
        assert bench.route.release is not None
        assert bench.route.release.version == "21"

    play(scenario)


def test_a_switch_to_a_process_that_has_died_changes_nothing(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        candidate = await bench.route.start(bench.release(models.linear(seed=1), 2))
        os.kill(candidate.pid, 9)
        await bench.until(lambda: not candidate.alive)
        with pytest.raises(EdgedError, match="trial_crash"):
            await bench.route.switch(candidate)
        outcome = await bench.send(ONE_SCAN)
        assert isinstance(outcome, Answer)
        assert outcome.version == "1"

    play(scenario)


def test_the_warm_previous_generation_takes_over_without_loading(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        first = bench.route.live
        await bench.route.switch(await bench.route.start(bench.release(models.linear(seed=1), 2)))
        assert bench.route.previous is first
        assert first is not None
        await bench.route.switch(first)
        assert bench.route.live is first

    play(scenario)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not_a_model"),
        (b"just text", "not_a_model"),
        (models.linear()[:-20], "not_a_model"),
        (models.greedy(), "over_memory"),
        (models.endless(), "too_slow"),
    ],
    ids=["empty", "text", "truncated", "greedy", "endless"],
)
def test_what_cannot_be_loaded_says_why_and_leaves_no_process(play: Play, content: bytes, code: str) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(EdgedError) as caught:
            await bench.route.start(bench.release(content))
        assert caught.value.fault.code == code
        assert caught.value.fault.hint
        await bench.until(lambda: not workers())

    play(scenario, Model("m", limits=Limits(run=Duration(0.5))))


def workers() -> list[int]:
    """The worker processes of this test: children of the fork server, which is a child of ours."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [
        int(grandchild)
        for child in children
        for grandchild in Path(f"/proc/{child}/task/{child}/children").read_text().split()
    ]


def test_a_signature_that_fits_no_message_is_refused_in_words(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(EdgedError, match="64 KiB") as caught:
            await bench.route.start(bench.release(models.wide(1000)))
        assert caught.value.fault.code == "unsupported"

    play(scenario)


def test_a_switch_ends_what_was_warm_before(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        first = bench.route.live
        assert first is not None
        await bench.route.switch(await bench.route.start(bench.release(models.linear(), 2)))
        assert first.alive
        await bench.route.switch(await bench.route.start(bench.release(models.linear(), 3)))
        assert not first.alive

    play(scenario)
