"""Models and inputs near a limit: what fits is served, what does not is refused and ends no process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import numpy as np
import pytest
from onnx import helper

from edged.channel import MESSAGE_LIMIT, Answers, InputHead
from edged.config.schema import Limits, Model
from edged.config.steps import Labels, TopK
from edged.config.units import Duration, Size
from edged.errors import EdgedError, Fault
from edged.messages import Answer
from edged.serving import generation
from edged.worker import entry
from tests import models
from tests.integration.serving import evil
from tests.integration.serving.conftest import Bench

Play = Callable[..., None]


def costly(mebibytes: int) -> bytes:
    """x [batch, 1] -> y [batch, 1]: each row takes about twice so much memory, and time to match."""
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["wide"]),
        helper.make_node("Exp", ["wide"], ["high"]),
        helper.make_node("ReduceMax", ["high"], ["y"], axes=[1], keepdims=1),
    ]
    shape = np.array([1, mebibytes * 2**18], dtype=np.int64)
    return models.build(nodes, [("x", "float32", ("batch", 1))], [("y", "float32", ("batch", 1))], {"shape": shape})


def wide(inputs: int) -> bytes:
    """in_0 .. [batch, n_0 ..], each with a long name -> y = in_0 [batch, n_0]."""
    names = [f"in_{number}_{'x' * 60}" for number in range(inputs)]
    nodes = [helper.make_node("Identity", [names[0]], ["y"])]
    specs = [(name, "float32", ("batch", f"n_{number}")) for number, name in enumerate(names)]
    return models.build(nodes, specs, [("y", "float32", ("batch", "n_0"))])


def test_a_model_that_fits_the_memory_alone_runs_alone(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(costly(16)))
        assert bench.route.fault is None
        outcomes = await asyncio.gather(*(bench.send(b"[0]") for _ in range(5)))
        assert [type(one) for one in outcomes] == [Answer] * 5

    play(scenario, Model("m", limits=Limits(memory=Size(2**27))))


@pytest.mark.parametrize("threads", [2, 8, 64])
def test_what_threads_need_for_themselves_is_not_of_the_models_memory(play: Play, threads: int) -> None:
    """RULES 7: the kernel counts 8 MiB for the stack of each, and onnxruntime waits for ever where there is no room."""

    async def scenario(bench: Bench) -> None:
        await asyncio.wait_for(bench.route.serve(bench.release(models.linear())), 60)
        assert bench.route.fault is None
        assert isinstance(await bench.send(b"[1, 2, 3, 4]"), Answer)

    play(scenario, Model("m", threads=threads, limits=Limits(memory=Size(4 * 2**20))))


def test_a_load_that_hangs_is_ended_and_tried_again(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "main", evil.never_loads)
    monkeypatch.setattr(generation, "OPEN_LIMIT_S", 0.3)

    async def scenario(bench: Bench) -> None:
        await asyncio.wait_for(bench.route.serve(bench.release(models.linear())), 60)
        assert bench.route.fault is not None
        assert bench.route.fault.code == "too_slow"
        assert bench.route.fault.hint
        assert "limits.run" not in bench.route.fault.hint
        await bench.until(lambda: not list(bench.route.processes))
        monkeypatch.undo()
        await bench.until(lambda: bench.route.live is not None)

    play(scenario)


def test_a_model_that_keeps_its_limit_is_not_too_slow_for_being_measured(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        generation = await bench.route.start(bench.release(costly(192)))
        assert generation.facts is not None
        assert generation.facts.run_s > 0.125, "too fast to show anything"
        assert generation.facts.batch_max == 1

    play(scenario, Model("m", limits=Limits(memory=Size(2**34), run=Duration(1))))


@pytest.mark.parametrize("elements", [3_000_000, 4_000_000])
def test_an_answer_that_takes_too_much_memory_ends_no_process(play: Play, elements: int) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.identity(shape=("batch", "n"))))
        problem = await bench.send(np.zeros(elements, dtype=np.float32).tobytes())
        assert isinstance(problem, Fault)
        assert problem.code == "over_memory"
        assert isinstance(await bench.send(b"[1, 2]"), Answer)
        assert bench.counters.restarts == 0

    play(scenario, Model("m", limits=Limits(memory=Size(2**26))))


def test_an_input_above_the_memory_of_a_process_ends_none(play: Play) -> None:
    """RULES 7: it is refused at the door; it ended its process twice before it was called poison."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.identity(shape=("batch", "n"))))
        problem = await bench.send(bytes(2**26 + 1))
        assert isinstance(problem, Fault)
        assert problem.code == "over_memory"
        assert isinstance(await bench.send(b"[1, 2]"), Answer)
        assert bench.counters.restarts == 0

    play(scenario, Model("m", limits=Limits(memory=Size(2**26), message=Size(2**27))))


def test_a_long_error_and_a_large_answer_in_one_batch(play: Play) -> None:
    """Each fits a message, both together do not."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(wide(150)))
        live = bench.route.live
        assert live is not None
        assert live.facts is not None
        values = {spec.name: [0.0] for spec in live.facts.signature.inputs}
        values[next(iter(values))] = [0.1] * 2800  # each is answered as 0.10000000149011612
        tensors = [
            {"name": name, "datatype": "FP32", "shape": [1, len(data)], "data": data} for name, data in values.items()
        ]
        good, bad = json.dumps({"inputs": tensors}).encode(), b'{"inputs": []}'
        answered: asyncio.Future[Answers | None] = asyncio.get_running_loop().create_future()
        heads = [InputHead(len(payload)) for payload in (good, bad)]
        assert live.submit(heads, [good, bad], lambda answers, _payload: answered.set_result(answers))
        answers = await answered
        assert answers is not None
        assert [head.fault is None for head in answers.heads] == [True, False]
        assert answers.heads[0].size + len(str(answers.heads[1].fault)) > MESSAGE_LIMIT

    play(scenario)


def test_labels_that_fit_no_message(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(EdgedError, match=r"bad_config.*too long"):
            await bench.route.start(bench.release(models.linear()))

    play(scenario, Model("m", postprocess=(TopK(1), Labels(tuple(f"label number {n}" for n in range(10_000))))))
