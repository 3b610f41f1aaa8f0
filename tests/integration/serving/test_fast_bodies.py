"""The fast lane's bodies through a real worker, as an input of any other form."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import numpy as np

from edged import frames
from edged.config.schema import Model
from edged.config.steps import Labels, Scale, TopK
from edged.errors import Fault
from edged.messages import FAST, Answer, Input, Outcome, Source
from edged.tensors import BY_NUMPY
from edged.worker.formats.decoded import Array
from tests import models
from tests.integration.serving.conftest import Bench
from tests.unit.worker.formats.samples import extremes, same
from tests.unit.worker.formats.test_fast import body, read

Play = Callable[..., None]


async def ask(bench: Bench, payload: bytes) -> Outcome:
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    bench.route.offer(Input("m", payload, Source.FAST, future.set_result, time.monotonic(), form=FAST))
    return await future


async def answered(bench: Bench, tensors: Mapping[str, Array], asked: tuple[str, ...] = (), flags: int = 0) -> Answer:
    outcome = await ask(bench, body(tensors, asked, flags))
    assert isinstance(outcome, Answer), outcome
    return outcome


def test_every_datatype_and_the_outputs_asked_for(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.identities()))
        tensors = {f"x_{dtype}": np.resize(extremes(BY_NUMPY[dtype].oip), (3, 2)) for dtype in models.DTYPES}
        answer = await answered(bench, tensors)
        assert (answer.version, answer.json_length) == ("1", 0)
        found = read(answer.payload)
        assert all(same(found[f"y_{name[2:]}"], array) for name, array in tensors.items())
        some = read((await answered(bench, tensors, ("y_int8", "y_object"))).payload)
        assert list(some) == ["y_int8", "y_object"]

    play(scenario)


def test_a_request_that_does_not_fit_and_one_that_asks_for_steps(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.identity()))
        refused = await ask(bench, b"\1")
        assert isinstance(refused, Fault)
        assert (refused.code, "docs/fast.md" in refused.hint) == ("bad_input", True)
        x = np.array([[1, 2, 3, 4]], dtype=np.float32)
        assert list(read((await answered(bench, {"x": x})).payload)) == ["y"]
        stepped = read((await answered(bench, {"x": x}, flags=frames.STEPS)).payload)
        assert stepped["prediction"].tolist() == ['{"label":"d","index":3,"score":8.0}']
        assert same(stepped["y"], 2 * x)
        nonfinite = await answered(bench, {"x": x * np.float32("nan")})
        assert nonfinite.nonfinite

    play(scenario, Model("m", preprocess=(Scale(2.0),), postprocess=(TopK(1), Labels(("a", "b", "c", "d")))))
