"""The cache of prepared models in a running daemon: found again after a restart, never needed, never trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import models
from tests.box import Box, box
from tests.waiting import until


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("models") / "large.onnx"
    found.write_bytes(models.linear(512, 1024))
    return found


def configuration(file: Path) -> str:
    return f"device: press-07\nmodels:\n  large: {{file: {file}}}\n  again: {{file: {file}}}\n"


def forms(one: Box) -> list[Path]:
    return sorted((one.folder / "cache" / "prepared").glob("*"))


def maps(one: Box, model: str) -> bool:
    return "weights.bin" in Path(f"/proc/{one.model(model)['pid']}/maps").read_text()


def answer(one: Box) -> Any:
    row = np.linspace(-1, 1, 512, dtype=np.float32).tolist()
    code, found = one.infer("large", [{"name": "x", "shape": [1, 512], "datatype": "FP32", "data": row}])
    assert code == 200, found
    return found["outputs"][0]["data"]


def test_it_outlives_the_daemon_and_is_shared_by_models_of_one_file(file: Path) -> None:
    with box(configuration(file)) as one:
        assert maps(one, "large")
        assert maps(one, "again")
        (form,) = forms(one)
        before, first = (form / "weights.bin").stat(), answer(one)
        one.stop()
        one.start()
        assert maps(one, "large")
        after = (form / "weights.bin").stat()
        assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
        assert answer(one) == first
        one.stop()
        one.config.write_text("device: press-07\n")
        one.start()
        until(lambda: forms(one) == [])


def test_what_may_run_on_a_gpu_is_loaded_from_its_own_file(file: Path) -> None:
    """The form is of the CPU's kernels, which no other provider has."""
    with box(f"device: press-07\nmodels:\n  large: {{file: {file}, providers: [cuda, cpu]}}\n") as one:
        assert one.model("large")["state"] == "serving"
        assert answer(one)
        assert forms(one) == []


@pytest.mark.parametrize("harm", ["damaged", "truncated", "in the way"])
def test_whatever_happens_to_it_the_model_answers(file: Path, harm: str) -> None:
    with box(configuration(file)) as one:
        first = answer(one)
        (form,) = forms(one)
        weights = form / "weights.bin"
        weights.chmod(0o640)
        if harm == "truncated":  # under the running process, whose pages are gone then
            weights.write_bytes(b"")
        else:
            one.stop()
            if harm == "damaged":
                weights.write_bytes(bytes(weights.stat().st_size))
            else:
                (one.folder / "cache").rename(one.folder / "moved")
                (one.folder / "cache").write_text("not a folder")
            one.start()
        until(lambda: answer(one) == first)
        assert maps(one, "large") is (harm != "in the way")


def test_a_form_of_another_version_is_no_obstacle(file: Path) -> None:
    with box(configuration(file), start=False) as one:
        stray = one.folder / "cache" / "prepared" / "0123-another"
        stray.mkdir(parents=True)
        (stray / "model.onnx").write_text(json.dumps({}))
        one.start()
        assert answer(one)
        until(lambda: not stray.exists())
        assert len(forms(one)) == 1
