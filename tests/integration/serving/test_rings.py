"""RULES 12 on real processes: what is too large for a message travels in slots, and arrives as it was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import FunctionType

import numpy as np
import pytest
from onnx import helper

from edged.channel import MESSAGE_LIMIT, Answers, InputHead
from edged.config.schema import Limits, Model
from edged.config.units import Duration, Size
from edged.errors import Fault
from edged.messages import Answer, Outcome
from edged.rings import LARGEST_SLOT, SLOTS
from edged.serving.rings import WORTH_A_SLOT
from edged.worker import entry
from tests import models
from tests.integration.serving import evil
from tests.integration.serving.conftest import Bench

Play = Callable[..., None]
LARGE = Model("m", limits=Limits(memory=Size(2**31), message=Size(2**28)))


def numbers(count: int, start: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Whole numbers as float32: short in JSON."""
    return ((np.arange(count) + start) % 1000).astype(np.float32)


def same(outcome: Outcome, sent: np.ndarray[tuple[int], np.dtype[np.float32]]) -> bool:
    assert isinstance(outcome, Answer), outcome
    return bool(json.loads(outcome.payload)["outputs"][0]["data"] == sent.tolist())


def free(bench: Bench) -> tuple[int, int]:
    """How many slots for inputs and for results nobody uses."""
    assert bench.route.live is not None
    rings = bench.route.live._rings
    assert rings is not None
    return len(rings._free_inputs._free), len(rings._free_results._free)


@pytest.mark.parametrize("border", [WORTH_A_SLOT, MESSAGE_LIMIT, LARGEST_SLOT])
def test_sizes_around_each_border(play: Play, border: int) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.identity(shape=(None,))))
        for size in (border - 4096, border - 4, border, border + 4):
            sent = numbers(size // 4)
            assert same(await bench.send(sent.tobytes()), sent), size
        assert free(bench) == (SLOTS, SLOTS)

    play(scenario, LARGE)


def test_a_hundred_large_inputs_at_once_are_not_mixed_up(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.identity(shape=(None,))))
        sent = [numbers(20_000 + index, start=index) for index in range(60)]
        outcomes = await asyncio.gather(*(bench.send(one.tobytes()) for one in sent))
        assert all(same(outcome, one) for outcome, one in zip(outcomes, sent, strict=True))
        assert free(bench) == (SLOTS, SLOTS)

    play(scenario, LARGE)


def test_a_large_input_is_run_again_after_a_death(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.identity(shape=(None,))))
        sent = numbers(200_000)
        first = bench.route.live
        outcome = bench.send(sent.tobytes())
        assert first is not None
        first.kill()
        assert same(await outcome, sent)
        assert bench.route.live is not first
        assert free(bench) == (SLOTS, SLOTS)

    play(scenario, LARGE)


def test_without_a_free_slot_a_payload_travels_by_itself(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.identity(shape=(None,))))
        assert bench.route.live is not None
        rings = bench.route.live._rings
        assert rings is not None
        held = [(rings._free_inputs.take(), rings.room()) for _ in range(SLOTS)]
        for size in (WORTH_A_SLOT, 2 * MESSAGE_LIMIT):
            sent = numbers(size // 4)
            assert same(await bench.send(sent.tobytes()), sent), size
        for place, room in held:
            assert place is not None
            rings.free(place, room)
        assert free(bench) == (SLOTS, SLOTS)

    play(scenario, LARGE)


def test_slots_are_free_again_when_whoever_takes_an_answer_fails(play: Play) -> None:
    """That is a fault of edged's own; a boundary that lives on must leave no slot taken."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.identity(shape=(None,))))
        live, caught = bench.route.live, asyncio.get_running_loop().create_future()
        assert live is not None
        asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.set_result(context["exception"]))

        def fails(_answers: Answers | None, _payload: memoryview) -> None:
            assert free(bench) == (SLOTS - 1, SLOTS - 1)
            raise ZeroDivisionError

        sent = numbers(100_000).tobytes()
        assert live.submit([InputHead(len(sent))], [sent], fails)
        assert isinstance(await caught, ZeroDivisionError)
        assert free(bench) == (SLOTS, SLOTS)

    play(scenario, LARGE)


def test_an_input_of_a_hundred_megabytes(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(largest()))
        sent = numbers(100 * 2**20 // 4)
        sent[-1] = 5000
        assert same(await bench.send(sent.tobytes()), sent[-1:])

    play(scenario, Model("m", limits=Limits(memory=Size(2**31), message=Size(2**28), run=Duration(60))))


def largest() -> bytes:
    """x float32 -> y [1], the largest of them."""
    nodes = [helper.make_node("ReduceMax", ["x"], ["y"], keepdims=1)]
    return models.build(nodes, [("x", "float32", (None,))], [("y", "float32", (1,))])


def test_an_output_of_400_megabytes_is_refused_to_its_sender_alone(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(expanding()))
        outcomes = await asyncio.gather(bench.send(b"[100000000]"), bench.send(b"[3]"))
        assert isinstance(outcomes[0], Fault)
        assert outcomes[0].code in ("output_too_large", "over_memory")
        assert same(outcomes[1], np.zeros(3, dtype=np.float32))
        assert bench.counters.restarts == 0

    play(scenario, Model("m", limits=Limits(memory=Size(2**33), run=Duration(60))))


def expanding() -> bytes:
    """given int64 [1] -> y float32: as many zeros as the number says."""
    nodes = [helper.make_node("ConstantOfShape", ["given"], ["y"])]
    return models.build(nodes, [("given", "int64", (1,))], [("y", "float32", (None,))])


@pytest.mark.parametrize("worker", [evil.answers_in_a_slot_it_was_not_given, evil.answers_outside_its_ring])
def test_a_worker_that_answers_in_another_slot_is_ended(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, worker: FunctionType
) -> None:
    async def scenario(bench: Bench) -> None:
        monkeypatch.setattr(entry, "main", worker)
        await bench.route.serve(bench.release(models.identity(shape=(None,))))
        live = bench.route.live
        assert live is not None
        monkeypatch.undo()
        sent = numbers(100_000)
        assert same(await bench.send(sent.tobytes()), sent)  # by an honest one, which took its place
        assert live.reason is not None
        assert "broke the protocol" in live.reason.message
        assert bench.counters.restarts == 1

    play(scenario, LARGE)


def test_a_worker_cannot_cut_its_rings(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(bench: Bench) -> None:
        monkeypatch.setattr(entry, "main", evil.cuts_its_rings)
        await bench.route.serve(bench.release(models.identity(shape=(None,))))
        sent = numbers(100_000)
        assert same(await bench.send(sent.tobytes()), sent)
        assert bench.counters.restarts == 0

    play(scenario, LARGE)
