"""Inputs that share one run in a real worker: each gets its own rows back, bit for bit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from edged.channel import AnswerHead, Answers, InputHead, split
from edged.config.schema import Input, Model
from edged.config.steps import Form, FormatName
from edged.serving.generation import Generation
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


async def answered(generation: Generation, arrays: list[Array], name: str) -> list[tuple[AnswerHead, bytes]]:
    """One batch of inputs that are alike, each an array of tensor `name`: heads and payloads of the answers."""
    bodies = [binary({name: array}) for array in arrays]
    heads = [InputHead(len(body), json_length=int(headers[JSON_LENGTH]), binary=True) for body, headers in bodies]
    future: asyncio.Future[list[tuple[AnswerHead, bytes]]] = asyncio.get_running_loop().create_future()

    def done(answers: Answers | None, payload: memoryview) -> None:
        assert answers is not None
        parts = split(answers.heads, payload)
        future.set_result([(head, bytes(part)) for head, part in zip(answers.heads, parts, strict=True)])

    assert generation.submit(heads, [body for body, _ in bodies], done)
    return await future


def tensors(head: AnswerHead, payload: bytes) -> dict[str, Array]:
    assert head.fault is None
    return Reply(200, payload, {JSON_LENGTH: str(head.json_length)}).tensors()


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_what_comes_again_and_again_is_answered_for_its_own_values(play: Play, count: int) -> None:
    async def scenario(bench: Bench) -> None:
        generation = await bench.route.start(bench.release(models.gather(rows=1000)))
        table = np.arange(3000, dtype=np.float32).reshape(1000, 3)
        for turn in range(4):
            sent = [np.array([[turn, number], [number, 999]]) for number in range(count)]
            for ids, answer in zip(sent, await answered(generation, sent, "ids"), strict=True):
                assert same(tensors(*answer)["y"], table[ids])

    play(scenario)


@pytest.mark.parametrize("count", [1, 4])
def test_one_that_the_model_refuses_is_told_so_alone(play: Play, count: int) -> None:
    async def scenario(bench: Bench) -> None:
        generation = await bench.route.start(bench.release(models.gather(rows=10)))
        for turn in range(4):
            sent = [np.array([[1, number]]) for number in range(count)]
            sent[-1][0, 0] = 10 if turn == 3 else 9
            answers = await answered(generation, sent, "ids")
            good = answers[:-1] if turn == 3 else answers
            for ids, answer in zip(sent, good, strict=False):
                assert same(tensors(*answer)["y"], np.arange(30, dtype=np.float32).reshape(10, 3)[ids])
        fault = answers[-1][0].fault
        assert fault is not None
        assert (fault.code, answers[-1][0].own) == ("bad_input", False)

    play(scenario)


@pytest.mark.parametrize("count", [1, 4])
def test_nan_is_told_of_the_one_that_has_it(play: Play, count: int) -> None:
    async def scenario(bench: Bench) -> None:
        generation = await bench.route.start(bench.release(models.identity()))
        for turn in range(4):
            sent = [np.full((1, 4), number, np.float32) for number in range(count)]
            sent[0][0, 0] = np.nan if turn == 3 else 0
            answers = await answered(generation, sent, "x")
            assert all(same(tensors(*answer)["y"], array) for array, answer in zip(sent, answers, strict=True))
            assert [head.nonfinite for head, _ in answers] == [turn == 3, *[False] * (count - 1)]

    play(scenario)
