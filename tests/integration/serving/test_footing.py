"""RULES 9: what falls back to the CPU takes no place beside a process that has its GPU.

There is no GPU here: a real process is said to have one, and the next one really falls back.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import msgspec
import pytest

from edged.config.schema import Model
from edged.errors import EdgedError, Fault
from edged.messages import Answer
from edged.serving.footing import cramped
from edged.serving.generation import Generation
from edged.serving.memory import lacking
from edged.worker import entry, main
from edged.worker.providers import cuda
from tests import models
from tests.integration.serving.conftest import Bench

Play = Callable[..., None]
MIB = 2**20


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # for a machine that has one


def on_gpu(bench: Bench) -> Generation:
    """The live process, as if its facts had said so."""
    live = bench.route.live
    assert live is not None
    assert live.facts is not None
    names = ("CUDAExecutionProvider", "CPUExecutionProvider")
    live.facts = msgspec.structs.replace(live.facts, providers=names, fallback="")
    return live


def test_a_process_that_fell_back_is_no_successor_of_one_that_did_not(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        live = on_gpu(bench)
        with pytest.raises(EdgedError) as found:
            await bench.route.start(bench.release(models.counting(), 2), candidate=True)
        assert found.value.fault.code == "no_provider"
        assert "cuda: " in found.value.fault.message
        assert "stop_start" in found.value.fault.hint
        await bench.until(lambda: list(bench.route.processes) == [live])  # the other one has ended
        assert isinstance(await bench.send(b"[1]"), Answer)

    play(scenario, Model("m", providers=("cuda", "cpu")))


def test_beside_one_that_fell_back_itself_it_may(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.counting()))
        fresh = await bench.route.start(bench.release(models.counting(), 2), candidate=True)
        assert fresh.facts is not None
        assert fresh.facts.fallback
        await bench.route.switch(fresh)
        assert isinstance(await bench.send(b"[1]"), Answer)

    play(scenario, Model("m", providers=("cuda", "cpu")))


def test_stop_start_means_a_gpu_that_has_no_room_for_two(play: Play) -> None:
    """Whatever the box's own memory says; a model on the CPU is asked about that alone."""

    async def scenario(bench: Bench) -> None:
        release = bench.release(models.counting())
        await bench.route.serve(release)
        settings = bench.route.settings
        parallel = msgspec.structs.replace(settings, swap="parallel")
        assert cramped(bench.route.live, release.file, settings, 2**40) is None
        on_gpu(bench)
        problem = cramped(bench.route.live, release.file, settings, 2**40)
        assert problem is not None
        assert problem.code == "no_space"
        assert cramped(bench.route.live, release.file, parallel, 2**40) is None
        assert cramped(None, release.file, settings, 0) is None
        await bench.route.make_room(release)
        assert bench.route.live is None
        bench.route.resume()
        assert isinstance(await bench.send(b"[1]"), Answer)

    play(scenario, Model("m", swap="stop_start", providers=("cuda", "cpu")))


def test_cuda_takes_memory_of_the_box_for_itself(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        file = bench.release(models.counting()).file
        assert lacking(file, 128 * MIB, ("cpu",)) is None
        problem = lacking(file, 128 * MIB, ("cuda", "cpu"))
        assert problem is not None
        assert "704 MiB" in problem.message

    play(scenario, Model("m"))


def loses_its_gpu(sock: socket.socket, _candidate: bool) -> None:
    """Takes every failed run for one that CUDA does not go on after."""
    cuda.is_lost = lambda text: text != ""  # in this process alone
    main.serve(sock)


def test_what_loses_its_gpu_ends_and_the_next_one_answers(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process stays that can answer nothing any more; an input that ends two of them is poison."""
    monkeypatch.setattr(entry, "main", loses_its_gpu)

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(bench.release(models.gather(rows=10)))
        first = bench.route.live
        outcome = await bench.send(b"[[99, 0]]")
        assert isinstance(outcome, Fault)
        assert outcome.code == "poison_input"
        assert isinstance(await bench.send(b"[[1, 2]]"), Answer)
        assert bench.route.live is not first
        assert bench.counters.restarts == 2

    play(scenario)
