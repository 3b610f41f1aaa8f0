"""Inputs that share one run in a real worker: each gets its own rows back, bit for bit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from edged.channel import Answers, InputHead, split
from edged.config.schema import Input, Model
from edged.config.steps import Form, FormatName
from edged.tensors import BY_NUMPY
from tests import models, tensor_models
from tests.clients.oip import JSON_LENGTH, Array, Reply, binary
from tests.integration.serving.conftest import Bench
from tests.unit.worker.formats.samples import extremes, same

Play = Callable[..., None]


def samples(number: int) -> dict[str, Array]:
    """`x_<dtype>` [rows, 2] of extremes, other ones and another number of rows for each sender."""
    found = {}
    for dtype in models.DTYPES:
        values = np.roll(extremes(BY_NUMPY[dtype].oip), number)
        found[f"x_{dtype}"] = np.resize(values, (number % 3 + 1, 2))
    return found


@pytest.mark.parametrize(("format", "most"), [("auto", 16), ("image", 1)])
def test_pictures_run_one_by_one(play: Play, format: FormatName, most: int) -> None:
    """Sixteen that are large would take longer to read than limits.run allows."""

    async def scenario(bench: Bench) -> None:
        generation = await bench.route.start(bench.release(models.identity(shape=("batch", 2, 2, 3))))
        assert generation.batch_max == most

    play(scenario, Model("m", inputs=(Input("t", form=Form(format=format)),)))


def test_thirteen_datatypes_share_a_run_and_part_exactly(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        generation = await bench.route.start(bench.release(tensor_models.counted_identities()))
        sent = [samples(number) for number in range(7)]
        bodies = [binary(tensors) for tensors in sent]
        heads = [InputHead(len(body), json_length=int(headers[JSON_LENGTH]), binary=True) for body, headers in bodies]
        future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()

        def done(answers: Answers | None, payload: memoryview) -> None:
            assert answers is not None
            parts = split(answers.heads, payload)
            future.set_result(
                [
                    Reply(200, bytes(part), {JSON_LENGTH: str(head.json_length)})
                    for head, part in zip(answers.heads, parts, strict=True)
                ]
            )

        assert generation.submit(heads, [body for body, _ in bodies], done)
        total = sum(len(tensors["x_int64"]) for tensors in sent)
        for tensors, reply in zip(sent, await future, strict=True):
            got = reply.tensors()
            assert got.pop("rows").tolist() == [total] * len(tensors["x_int64"])
            assert all(same(got[name.replace("x_", "y_")], array) for name, array in tensors.items())

    play(scenario)
