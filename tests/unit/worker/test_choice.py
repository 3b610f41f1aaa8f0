"""Which provider a model is opened with (session.Model.open), with the onnxruntime that is here and no GPU."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edged.errors import EdgedError
from edged.worker.session import Model
from tests import models


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # for a machine that has one


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(models.identity())
    return path


def test_the_first_that_works(file: Path) -> None:
    model = Model.open(file, providers=("cuda", "cpu"))
    assert model.providers == ("CPUExecutionProvider",)
    assert model.fallback.startswith("cuda: ")
    x = np.ones((1, 4), np.float32)
    assert np.array_equal(model.run({"x": x})["y"], x)


def test_what_was_asked_for_first_is_no_fallback(file: Path) -> None:
    model = Model.open(file)
    assert (model.providers, model.fallback) == (("CPUExecutionProvider",), "")
    assert model.spent_ns is time.process_time_ns


def test_alone_it_does_not_fall_back(file: Path) -> None:
    with pytest.raises(EdgedError) as found:
        Model.open(file, providers=("cuda",))
    assert found.value.fault.code == "no_provider"
    assert "docs/install.md" in found.value.fault.hint


def test_a_broken_model_is_the_models_fault(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(b"no model")
    with pytest.raises(EdgedError) as found:
        Model.open(file, providers=("cuda", "cpu"))
    assert found.value.fault.code == "not_a_model"
