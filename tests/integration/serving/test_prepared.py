"""Prepared models with the real onnxruntime and real processes: the same answers, shared weights, and the ways back."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import helper

from edged.config.schema import Limits, Model
from edged.config.units import Size
from edged.errors import EdgedError
from edged.messages import Answer
from edged.serving.prepared import PreparedModels
from edged.serving.release import Release
from tests import models
from tests.integration.serving.conftest import Bench

Play = Callable[..., None]
LARGE = models.linear(512, 1024)  # 2 MiB of weights


def cached(bench: Bench, release: Release) -> tuple[PreparedModels, Release]:
    """A cache, and the release under the hash that its file really has."""
    file = Path(release.file)
    bench.route.processes.prepared = PreparedModels(file.parent / "cache")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return bench.route.processes.prepared, msgspec.structs.replace(release, sha256=sha256)


def weights(folder: Path) -> list[Path]:
    return list(folder.glob("prepared/*/weights.bin"))


def mapped(pid: int) -> bool:
    return "weights.bin" in Path(f"/proc/{pid}/maps").read_text()


async def answer(bench: Bench) -> Any:
    row = np.linspace(-1, 1, 512, dtype=np.float32).tolist()
    body = {"inputs": [{"name": "x", "shape": [1, 512], "datatype": "FP32", "data": row}]}
    found = await bench.send(json.dumps(body).encode())
    assert isinstance(found, Answer), found
    return json.loads(found.payload)["outputs"]


def test_the_first_load_prepares_it_and_all_map_the_same_weights(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        release = bench.release(LARGE)
        await bench.route.serve(release)
        assert bench.route.live is not None
        plain = await answer(bench)
        assert not mapped(bench.route.live.pid)
        _, known = cached(bench, release)
        await bench.route.switch(await bench.route.start(known))
        await bench.route.switch(await bench.route.start(known))
        live, previous = bench.route.live, bench.route.previous
        assert live is not None
        assert previous is not None
        assert live.pid != previous.pid
        assert mapped(live.pid)
        assert mapped(previous.pid)
        assert await answer(bench) == plain
        assert len(weights(Path(release.file).parent / "cache")) == 1

    play(scenario)


def test_a_form_that_onnxruntime_refuses_is_left_for_the_models_own_file(play: Play) -> None:
    """Its sums are right, as after a fault of our own; loading it fails."""

    async def scenario(bench: Bench) -> None:
        release = bench.release(LARGE)
        cache, known = cached(bench, release)

        async def rubbish(folder: Path) -> None:
            (folder / "model.onnx").write_bytes(b"no model")

        assert await cache.path(known.sha256, known.file, rubbish)
        await bench.route.serve(known)
        assert bench.route.live is not None
        assert not mapped(bench.route.live.pid)
        assert await answer(bench)
        assert weights(Path(release.file).parent / "cache") == []

    play(scenario)


def test_damaged_weights_are_made_anew(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        release = bench.release(LARGE)
        _, known = cached(bench, release)
        await bench.route.serve(known)
        plain = await answer(bench)
        (file,) = weights(Path(release.file).parent / "cache")
        content = file.read_bytes()
        file.chmod(0o640)
        file.unlink()  # the running process keeps what it has mapped
        file.write_bytes(bytes(len(content)))
        await bench.route.switch(await bench.route.start(known))
        assert bench.route.live is not None
        assert mapped(bench.route.live.pid)
        assert await answer(bench) == plain
        assert file.read_bytes() == content

    play(scenario)


def test_what_is_no_model_is_refused_as_without_a_cache(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        broken = bench.release(b"no model" * 2**18)
        _, known = cached(bench, broken)
        with pytest.raises(EdgedError) as caught:
            await bench.route.start(known)
        assert caught.value.fault.code == "not_a_model"
        assert weights(Path(broken.file).parent / "cache") == []

    play(scenario)


def test_a_graph_that_grows_is_bounded(play: Play) -> None:
    """Constants that onnxruntime works out beforehand: the form would have 64 MiB, for a file of one."""

    async def scenario(bench: Bench) -> None:
        release = bench.release(growing())
        _, known = cached(bench, release)
        await bench.route.serve(known)
        assert bench.route.fault is None
        assert weights(Path(release.file).parent / "cache") == []

    play(scenario, Model("m", limits=Limits(memory=Size(512 * 2**20))))


def growing() -> bytes:
    """x [1, 64] -> y [1, 1], with a matrix of 64 MiB that is one of its rows, 1 MiB, again and again."""
    nodes = [
        helper.make_node("Expand", ["row", "shape"], ["wide"]),
        helper.make_node("MatMul", ["x", "wide"], ["all"]),
        helper.make_node("ReduceSum", ["all"], ["y"], keepdims=1),
    ]
    row = np.random.default_rng(0).standard_normal((1, 2**18)).astype(np.float32)
    constants: dict[str, Any] = {"row": row, "shape": np.array([64, 2**18])}
    return models.build(nodes, [("x", "float32", (1, 64))], [("y", "float32", (1, 1))], constants)


def test_what_threads_need_for_themselves_is_not_of_the_memory_for_preparing(play: Play) -> None:
    """RULES 7: 64 stacks of 8 MiB would be more than twice the limit, and onnxruntime would wait for ever."""

    async def scenario(bench: Bench) -> None:
        _, release = cached(bench, bench.release(LARGE))
        await asyncio.wait_for(bench.route.serve(release), 60)
        assert bench.route.live is not None
        assert mapped(bench.route.live.pid)

    play(scenario, Model("m", threads=64, limits=Limits(memory=Size(2**26))))
