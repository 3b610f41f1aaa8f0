"""Routes on real worker processes: batches, deaths, deadlines, switches (RULES 10, 13, 14, 15)."""

from __future__ import annotations

import asyncio
import json
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.channel import Answers, InputHead
from edged.config.schema import Batch, Limits, Model, Queue
from edged.config.units import Duration, Size
from edged.errors import EdgedError, Fault
from edged.messages import Answer, Input, Outcome, Source
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


def test_a_transport_that_fails_takes_nobody_along(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """A bug in one input's reply is told and counted; the others of its batch, and what comes later, are answered."""

    def broken(outcome: Outcome) -> None:
        raise ZeroDivisionError("a bug on purpose")

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        live = bench.route.live
        assert live is not None
        for _ in range(40):  # more than a ring has slots
            first = bench.send(ONE_SCAN)
            bench.route.offer(Input("m", ONE_SCAN.ljust(100_000), Source.HTTP, broken, time.monotonic()))
            last = bench.send(ONE_SCAN)
            assert all(isinstance(one, Answer) for one in await asyncio.gather(first, last))
        bench.route.offer(Input("m", b"nonsense", Source.HTTP, broken, time.monotonic(), deadline_s=0.0))
        assert isinstance(await bench.send(ONE_SCAN), Answer)
        assert bench.route.live is live
        assert bench.counters.faults == {"reply": 41}
        assert {record.__dict__["code"] for record in caplog.records if record.exc_info} == {"internal"}

    play(scenario)


def test_where_several_come_at_a_time_the_first_waits_for_the_others(play: Play) -> None:
    """Until one has come alone: then the next goes at once again."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        live = bench.route.live
        assert live is not None
        await asyncio.gather(*(bench.send(ONE_SCAN) for _ in range(9)))
        for count in (9, 1):
            inputs = [bench.send(ONE_SCAN) for _ in range(count)]
            assert not live.flights
            await asyncio.sleep(0)
            assert [flight.inputs for flight in live.flights] == [count]
            assert all(isinstance(one, Answer) for one in await asyncio.gather(*inputs))
        alone = bench.send(ONE_SCAN)
        assert [flight.inputs for flight in live.flights] == [1]
        assert isinstance(await alone, Answer)

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
        others = [await one for one in after]
        assert [values(one) for one in others] == [[4.0]] * 5
        assert not any(one.retried for one in others if isinstance(one, Answer)), "only the oldest batch is suspect"
        assert bench.route.fault is None

    play(scenario, Model("m", limits=Limits(run=Duration(0.3))))


def test_two_batches_are_in_flight_and_no_more(play: Play) -> None:
    """RULES 10."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        sent = [bench.send(b"[1000000]") for _ in range(6)]
        live = bench.route.live
        assert live is not None
        await bench.until(lambda: len(live.flights) > 1)
        assert (len(live.flights), len(bench.route.feeder.lane)) == (2, 4)
        assert live.overtime.oldest_s(time.monotonic() + 7) > 7, "what the watchdog asks (RULES 8)"
        assert all(isinstance(one, Answer) for one in await asyncio.gather(*sent))
        assert live.overtime.oldest_s(time.monotonic()) == 0

    play(scenario, Model("m", batch=Batch(max=1), limits=Limits(run=Duration(60))))


def test_a_run_has_the_limit_that_is_written_or_one_that_was_measured(play: Play) -> None:
    """RULES 10: max(2 s, 20 x the measurement at load)."""

    async def scenario(bench: Bench) -> None:
        generation = await bench.route.start(bench.release(models.linear()))
        assert generation.facts is not None
        assert generation.overtime.limit_s == max(2.0, 20 * generation.facts.run_s)
        heavy = await bench.route.start(bench.release(models.slow(30_000), 2))
        assert heavy.facts is not None
        assert heavy.overtime.limit_s == max(2.0, 20 * heavy.facts.run_s) > 2

    play(scenario)


def test_the_limit_of_a_run_counts_from_the_answer_before(play: Play) -> None:
    """RULES 10: a batch that waited behind another is not ended for it."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        live = bench.route.live
        assert live is not None
        sent = bench.send(ENDLESS_TURNS)
        until_s = time.monotonic() + 2 * live.overtime.limit_s
        while time.monotonic() < until_s:
            live.overtime.answered()  # as if the one before had been answered just now
            await asyncio.sleep(0.01)
        assert live.alive
        problem = await sent  # nobody is answered any more: it is ended now
        assert isinstance(problem, Fault)
        assert not live.alive

    play(scenario, Model("m", limits=Limits(run=Duration(2))))


def test_an_input_past_its_deadline_is_not_run_again(play: Play) -> None:
    """RULES 13 and 14: its process ends once for it, and its sender had one answer."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        first = bench.route.live
        assert first is not None
        late = await bench.send(ENDLESS_TURNS, deadline_s=0.05)
        assert isinstance(late, Fault)
        assert late.code == "deadline"
        assert first.alive, "a deadline stops no run"
        assert values(await bench.send(b"[4]")) == [4.0]
        assert not first.alive
        assert bench.counters.restarts == 1

    play(scenario, Model("m", limits=Limits(run=Duration(1))))


def test_each_answer_carries_what_it_cost(play: Play) -> None:
    """RULES 25 and 28: nanoseconds by the worker's own clocks, of its CPU and of each part."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        live = bench.route.live
        assert live is not None
        told: asyncio.Future[Answers | None] = asyncio.get_running_loop().create_future()
        payload = b"[100000]"
        assert live.submit([InputHead(len(payload))], [payload], lambda answers, _payload: told.set_result(answers))
        answers = await told
        assert answers is not None
        assert answers.run_ns > answers.decode_ns > 0
        assert answers.run_ns > answers.encode_ns > 0
        assert answers.cpu_ns > 1_000_000, "a hundred thousand turns"
        probe = await live.probe(InputHead(len(payload)), payload)
        assert probe.cpu_s > 0.001

    play(scenario, Model("m", limits=Limits(run=Duration(60))))


def test_inputs_are_kept_for_a_trial_only_where_that_is_allowed(play: Play) -> None:
    """RULES 24: `push.record: false`."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.linear()))
        assert isinstance(await bench.send(ONE_SCAN), Answer)
        assert bench.route.recent() == []

    play(scenario, record=False)


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


def test_deadlines_that_are_due_at_once_are_answers_too(play: Play) -> None:
    """As a request brings them that may wait for a microsecond; others come in the same turn of the loop."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        running = [bench.send(b"[20000]") for _ in range(2)]
        await asyncio.sleep(0)
        hurried = [bench.send(b"[1]", deadline_s=-1.0) for _ in range(4)]
        usual = bench.send(b"[1]", deadline_s=60)
        assert [one.code for one in await asyncio.gather(*hurried) if isinstance(one, Fault)] == ["deadline"] * 4
        assert all(isinstance(one, Answer) for one in await asyncio.gather(usual, *running))

    play(scenario)


def test_a_deadline_answers_the_sender_and_the_late_answer_is_counted(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        slow = bench.send(b"[400000]", deadline_s=0.05)
        queued = [bench.send(b"[1]", deadline_s=0.05) for _ in range(3)]
        patient = bench.send(b"[2]")
        assert [one.code for one in await asyncio.gather(slow, *queued) if isinstance(one, Fault)] == ["deadline"] * 4
        assert values(await patient) == [2.0]
        assert bench.counters.drops["late"] >= 1
        assert bench.counters.outcomes["deadline"] == 4

    play(scenario, Model("m", batch=Batch(max=1), limits=Limits(run=Duration(30))))


def test_a_payload_is_let_go_of_with_its_outcome(play: Play) -> None:
    """Not when its deadline would have passed, nor when the run that it is in ends."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))

        def send(text: bytes, deadline_s: float) -> tuple[asyncio.Future[Outcome], weakref.ref[memoryview]]:
            payload = memoryview(text)
            return bench.send(payload, deadline_s=deadline_s), weakref.ref(payload)

        outcome, answered = send(b"[7]", 100.0)
        assert values(await outcome) == [7.0]
        outcome, late = send(ENDLESS_TURNS, 0.2)
        found = await outcome
        assert isinstance(found, Fault)
        assert found.code == "deadline"
        assert not bench.route.feeder.idle  # the run goes on
        await bench.until(lambda: answered() is None and late() is None)

    play(scenario, Model("m", limits=Limits(run=Duration(600))), record=False)


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
def test_what_cannot_be_loaded_says_why_and_leaves_no_process(
    play: Play, content: bytes, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "edged")

    async def scenario(bench: Bench) -> None:
        with pytest.raises(EdgedError) as caught:
            await bench.route.start(bench.release(content))
        assert caught.value.fault.code == code
        assert caught.value.fault.hint
        await bench.until(lambda: not workers())
        # By itself or by us: whoever reads of signal 9 looks for what the kernel may have killed.
        await bench.until(lambda: "the process " in caplog.text)
        assert "by signal" not in caplog.text

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
