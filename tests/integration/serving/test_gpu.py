"""One model's processes on a GPU: the trial, and the limit of its memory."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from edged.config.schema import Limits, Model
from edged.config.units import Size
from edged.delivery.examiner import examine
from edged.errors import EdgedError
from edged.messages import Answer
from tests import models
from tests.gpu import CUDA, missing
from tests.integration.serving.conftest import Bench

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no GPU to test with: {missing()}")

Play = Callable[..., None]
MIB = 2**20
WIDE = 4096  # a matrix of 64 MiB


def test_a_trial_compares_the_clock_on_the_wall(play: Play) -> None:
    """A candidate like the live model passes, cold as its session is; an endless one does not."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.convolution()))
        assert bench.route.live is not None
        found = await examine(bench.route, bench.release(models.convolution(), 2), factor=3.0, clock=time.monotonic)
        assert found.judgement.fault is None
        assert found.candidate is not None
        assert found.candidate.facts is not None
        assert found.candidate.facts.providers == CUDA
        await bench.route.switch(found.candidate)
        assert found.judgement.figures.ratio > 0

    play(scenario, Model("m", providers=("cuda", "cpu")))


def test_limits_memory_is_the_gpus_too(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(EdgedError) as found:
            await bench.route.start(bench.release(models.linear(WIDE, WIDE)))
        assert found.value.fault.code == "over_memory"

    play(scenario, Model("m", providers=("cuda",), limits=Limits(memory=Size(48 * MIB))))


def test_what_is_above_the_gpus_limit_may_still_fit_the_cpus(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.identity()))
        assert isinstance(await bench.send(b"[1, 2, 3, 4]"), Answer)

    play(scenario, Model("m", providers=("cuda", "cpu"), limits=Limits(memory=Size(16 * MIB))))


def test_stacks_pay_only_where_a_change_of_shape_costs_nothing(play: Play) -> None:
    """cuDNN plans a convolution anew whenever its shape changes; a product of matrices has no plan."""

    async def scenario(bench: Bench) -> None:
        stacked = []
        for version, content in enumerate((models.convolution(), models.linear()), 1):
            found = await bench.route.start(bench.release(content, version))
            stacked.append(found.batch_max)
            await bench.route.retire(found)
        assert stacked == [1, 16]

    play(scenario, Model("m", providers=("cuda",)))
