"""What a signed release brings, on real processes: golden inputs, limits, a model.yaml, weights in other files."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from edged.config.overrides import Overrides
from edged.config.schema import Batch, Limits, Model, Output
from edged.config.steps import Argmax, Crop, Scale
from edged.config.units import Duration, Size
from edged.delivery import documents
from edged.delivery.documents import Golden
from edged.delivery.examiner import Examined, examine
from edged.messages import Answer
from edged.serving.release import Release
from edged.tensors import Signature, TensorSpec
from tests import models
from tests.integration.serving.conftest import Bench

Play = Callable[..., None]
SCANS = np.random.default_rng(3).random((3, 4)).astype(np.float32)
ONE_SCAN = json.dumps([1.0, 2.0, 3.0, 4.0]).encode()


def weights(seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float32)


def golden(release: Release, arrays: dict[str, Any] | bytes) -> Golden:
    """Puts a golden file beside the release's model."""
    file = Path(release.file).with_name("golden.npz")
    if isinstance(arrays, bytes):
        file.write_bytes(arrays)
    else:
        np.savez(file, **arrays)
    return Golden()


async def tried(bench: Bench, release: Release, **brings: Any) -> Examined:
    return await examine(bench.route, release, factor=100, clock=time.monotonic, **brings)


def code(examined: Examined) -> str:
    problem = examined.judgement.fault
    return "" if problem is None else problem.code


def said(examined: Examined) -> str:
    problem = examined.judgement.fault
    return "" if problem is None else problem.message


# --- golden inputs ------------------------------------------------------------------------------------


def test_golden_inputs_that_come_out_right(play: Play) -> None:
    """On the candidate alone: with nobody live it is not `untested`."""

    async def scenario(bench: Bench) -> None:
        release = bench.release(models.linear())
        right = golden(release, {"in/x": SCANS, "out/y": SCANS @ weights()})
        examined = await tried(bench, release, golden=right)
        assert examined.candidate is not None, said(examined)
        assert examined.judgement.flags == ()
        assert examined.judgement.figures.golden == 3
        assert 0 <= examined.judgement.figures.difference < 1e-4
        await bench.route.switch(examined.candidate)
        runs = bench.route.live.tally.runs if bench.route.live else None
        other = bench.release(models.linear(seed=1), 2)
        right = golden(other, {"in/x": SCANS, "out/y": SCANS @ weights(1)})
        assert code(await tried(bench, other, golden=right)) == ""
        assert bench.route.live is not None
        assert bench.route.live.tally.runs == runs

    play(scenario)


def test_ota_F40_wrong_golden_answers(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        release = bench.release(models.linear())
        wrong = SCANS @ weights()
        wrong[1, 2] += 1
        examined = await tried(bench, release, golden=golden(release, {"in/x": SCANS, "out/y": wrong}))
        assert code(examined) == "golden"
        assert said(examined).startswith("golden.npz, case 1: y[2] is ")
        assert examined.judgement.figures.golden == 2
        assert examined.candidate is None
        constant = golden(release, {"in/x": SCANS, "out/y": np.zeros((3, 3), np.float32)})
        assert "3 of 3 elements" in said(await tried(bench, release, golden=constant))

    play(scenario)


def test_ota_F40_nan_where_a_number_is_golden(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        release = bench.release(models.nan_weights())
        scans, right = np.ones((2, 1, 8, 8), np.float32), np.ones((2, 10), np.float32)
        examined = await tried(bench, release, golden=golden(release, {"in/image": scans, "out/logits": right}))
        assert code(examined) == "golden"
        assert "is nan, the golden one 1" in said(examined)
        as_expected = golden(release, {"in/image": scans, "out/logits": right * np.nan})
        assert code(await tried(bench, release, golden=as_expected)) == ""

    play(scenario)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04" + bytes(100), "cannot be read"),
        ({"out/y": np.zeros((1, 3), np.float32)}, "no in/x"),
        ({"in/x": np.zeros((1, 4)), "out/y": np.zeros((1, 3), np.float32)}, "is float64"),
        ({"in/x": np.zeros((0, 4), np.float32), "out/y": np.zeros((0, 3), np.float32)}, "has 0 cases"),
    ],
)
def test_golden_files_that_do_not_fit(play: Play, arrays: dict[str, Any] | bytes, words: str) -> None:
    async def scenario(bench: Bench) -> None:
        release = bench.release(models.linear())
        examined = await tried(bench, release, golden=golden(release, arrays))
        assert code(examined) == "golden"
        assert said(examined).startswith("golden.npz: ")
        assert words in said(examined)

    play(scenario)


def test_ota_F39_a_golden_input_that_never_ends(play: Play) -> None:
    """Any input would do that here: each case is bounded by limits.run."""

    async def scenario(bench: Bench) -> None:
        release = bench.release(models.counting())
        turns = {"in/given": np.array([[2**62]], np.int64), "out/y": np.array([[0.0]], np.float32)}
        examined = await tried(bench, release, golden=golden(release, turns))
        assert code(examined) == "too_slow"
        assert "longer than 0.3 s" in said(examined)

    play(scenario, Model("m", limits=Limits(run=Duration(0.3))))


def test_ota_F38_a_golden_input_that_eats_memory(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        release = bench.release(models.hungry())
        much = {"in/given": np.array([[2**28]], np.int64), "out/y": np.array([[0.0]], np.float32)}
        assert code(await tried(bench, release, golden=golden(release, much))) == "over_memory"

    play(scenario, Model("m", limits=Limits(memory=Size(64 * 2**20))))


# --- a release's own limits -----------------------------------------------------------------------------


def test_ota_F38_a_releases_own_limit_on_memory(play: Play) -> None:
    """The smaller one counts, and for every process of the release."""

    async def scenario(bench: Bench) -> None:
        large = bench.release(models.linear(2048, 2048))
        assert code(await tried(bench, msgspec.structs.replace(large, memory=4 * 2**20))) == "over_memory"
        assert code(await tried(bench, msgspec.structs.replace(large, memory=2**40))) == ""

    play(scenario, Model("m", limits=Limits(memory=Size(256 * 2**20))))


def test_ota_F39_a_releases_own_limits_on_time(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        release = bench.release(models.slow(2000))
        examined = await tried(bench, release, limits=documents.Limits(cpu_ms=0.001))
        assert code(examined) == "too_slow"
        assert "its release allows 0.001 ms" in said(examined)
        examined = await tried(bench, release, limits=documents.Limits(load_s=0.001))
        assert code(examined) == "too_slow"
        assert "0.001 s, which its release allows" in said(examined)
        assert code(await tried(bench, release, limits=documents.Limits(load_s=300, cpu_ms=1e6))) == ""

    play(scenario)


# --- a release's own settings ---------------------------------------------------------------------------


def brings(release: Release, **settings: Any) -> Release:
    return msgspec.structs.replace(release, settings=Overrides(**settings))


async def best(bench: Bench) -> list[Any]:
    outcome = await bench.send(ONE_SCAN)
    assert isinstance(outcome, Answer), outcome
    found: list[Any] = json.loads(outcome.payload)["outputs"][0]["data"]
    return found


def test_settings_hold_with_the_releases_processes_only(play: Play) -> None:
    """The live one keeps the box's, the way back brings them back, a reload keeps the release's on top."""

    async def scenario(bench: Bench) -> None:
        route = bench.route
        await route.serve(bench.release(models.identity()))
        assert await best(bench) == [2.0, 4.0, 6.0, 8.0]
        release = brings(bench.release(models.identity(), 2), preprocess=(Scale(10.0),), batch=Batch(1))
        examined = await tried(bench, release)
        assert examined.candidate is not None, said(examined)
        assert await best(bench) == [2.0, 4.0, 6.0, 8.0], "on trial"
        await route.switch(examined.candidate)
        assert await best(bench) == [10.0, 20.0, 30.0, 40.0]
        live = route.live
        assert live is not None
        assert live.batch_max == 1
        live.kill()
        assert await best(bench) == [10.0, 20.0, 30.0, 40.0], "in a new process"
        changed = route.terms.changed(Model("m", preprocess=(Scale(3.0),)))
        assert not route.terms.renews(changed.settings, release)
        route.adopt(changed)
        assert await best(bench) == [10.0, 20.0, 30.0, 40.0], "after a reload"
        back = route.previous
        assert back is not None
        await route.switch(back)
        assert await best(bench) == [2.0, 4.0, 6.0, 8.0], "the process that is warm has what it had"

    play(scenario, Model("m", preprocess=(Scale(2.0),)))


def test_a_releases_own_wait_for_company(play: Play) -> None:
    """The box's ten seconds do not hold for it."""

    async def scenario(bench: Bench) -> None:
        await bench.route.serve(brings(bench.release(models.identity()), batch=Batch(4)))
        live = bench.route.live
        assert live is not None
        assert live.facts is not None
        live.facts = msgspec.structs.replace(live.facts, batch_max=4)  # as if it had been found to pay
        assert isinstance(await asyncio.wait_for(bench.send(ONE_SCAN), 9), Answer)

    play(scenario, Model("m", batch=Batch(4, Duration(10))))


def test_steps_that_do_not_fit_are_bad_settings(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        plain = bench.release(models.identity())
        examined = await tried(bench, brings(plain, preprocess=(Crop((8, 8)),)))
        assert code(examined) == "bad_settings"
        assert "a picture becomes [8, 8, ?]" in said(examined)
        examined = await tried(bench, brings(plain, postprocess=()))
        assert code(examined) == "bad_settings"
        assert "output.format is prediction" in said(examined)
        assert code(await tried(bench, brings(plain, preprocess=()))) == ""

    play(scenario, Model("m", postprocess=(Argmax(),), output=Output(format="prediction")))


# --- weights in other files -------------------------------------------------------------------------------


def keeping(folder: Path, name: str, *, offset: int = 0) -> bytes:
    """`linear`, with its weights in the file `name`."""
    model = onnx.load_from_string(models.linear())
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", name), ("offset", str(offset)), ("length", "48")):
        tensor.external_data.add(key=key, value=value)
    tensor.ClearField("raw_data")
    content: bytes = model.SerializeToString()
    return content


# onnxruntime takes the last one for a pointer into its own memory.
ELSEWHERE = ["other.bin", "{above}/weights.bin", "../weights.bin", "sub/weights.bin", "./weights.bin", "link.bin"]
ELSEWHERE += ["1.onnx", "*/_ORT_MEM_ADDR_/*"]


def test_weights_in_a_file_that_the_release_lists(play: Play, short_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        (short_path / "weights.bin").write_bytes(weights().tobytes())
        release = bench.release(keeping(short_path, "weights.bin"))
        release = msgspec.structs.replace(release, beside=("weights.bin",))
        right = golden(release, {"in/x": SCANS, "out/y": SCANS @ weights()})
        examined = await tried(bench, release, golden=right)
        assert examined.candidate is not None, said(examined)

    play(scenario)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_ota_F47_weights_anywhere_else(play: Play, short_path: Path, name: str) -> None:
    """Not listed, a path, above the folder, below it, a link out of it, memory, itself: each exists, none is opened."""
    folder = short_path / "release"
    (folder / "sub").mkdir(parents=True)
    (short_path / "weights.bin").write_bytes(weights().tobytes())
    for file in ("weights.bin", "other.bin", "sub/weights.bin"):
        (folder / file).write_bytes(weights().tobytes())
    (folder / "link.bin").symlink_to(short_path / "weights.bin")
    name = name.format(above=short_path)

    async def scenario(bench: Bench) -> None:
        (folder / "1.onnx").write_bytes(keeping(folder, name))
        release = Release("m", "1", "0" * 64, str(folder / "1.onnx"), beside=("weights.bin", "link.bin"))
        examined = await tried(bench, release)
        assert code(examined) == "not_a_model"
        assert "it keeps weights in" in said(examined)
        assert repr(name)[:70] in said(examined)

    play(scenario)


def test_ota_F47_a_simple_push_brings_no_weights(play: Play, short_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        (short_path / "weights.bin").write_bytes(weights().tobytes())
        release = bench.release(keeping(short_path, "weights.bin"))
        assert code(await tried(bench, release)) == "not_a_model"
        factory = msgspec.structs.replace(release, beside=None)
        assert code(await tried(bench, factory)) == "", "the operator's own folder"

    play(scenario)


# --- a document that lies -----------------------------------------------------------------------------------


def test_ota_F36_the_session_is_not_what_the_document_says(play: Play) -> None:
    """With nobody live there is nothing else to compare with."""

    async def scenario(bench: Bench) -> None:
        release = bench.release(models.linear(4, 3))
        wrong = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 5)),))
        examined = await tried(bench, msgspec.structs.replace(release, signature=wrong))
        assert code(examined) == "io_mismatch"
        assert "its output is y FP32[-1, 3], its document says y FP32[-1, 5]" in said(examined)
        right = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 3)),))
        assert code(await tried(bench, msgspec.structs.replace(release, signature=right))) == ""

    play(scenario)
