"""The digits example's models are what the demonstration needs them to be, by onnxruntime itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edged.delivery.examiner import GENERATED
from edged.worker.session import Model

BRIGHTER = np.float32(2.5)  # what the demonstration's new lamp does


@pytest.fixture(scope="module")
def scans(digits: Path) -> tuple[np.ndarray, np.ndarray]:
    """`image` float32 [597, 1, 8, 8], and the digits that a person read, int64 [597]."""
    table = np.loadtxt(digits / "digits_test.csv", delimiter=",", skiprows=1, dtype=np.float32)
    return (table[:, 1:] / 16).reshape(-1, 1, 8, 8), table[:, 0].astype(np.int64)


def logits(digits: Path, version: int, images: np.ndarray) -> np.ndarray:
    (found,) = Model.open(digits / f"digits_v{version}_int8.onnx").run({"image": images}).values()
    return np.asarray(found)


def test_all_have_one_signature(digits: Path) -> None:
    found = [Model.open(digits / f"digits_v{version}_int8.onnx").signature for version in (1, 2, 3, 4)]
    assert found == found[:1] * 4


def test_v3_answers_finitely_and_wrong(digits: Path, scans: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = scans
    found = logits(digits, 3, images)
    assert np.isfinite(found).all()
    assert (found.argmax(1) == labels).mean() < 0.01
    assert (found.argmax(1) == (labels + 1) % 10).mean() > 0.99  # as sure as v2: nothing but the labels is wrong


def test_v4_is_v2_until_a_scan_is_brighter_than_any_before(digits: Path, scans: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = scans
    found = logits(digits, 4, images)
    assert np.isfinite(found).all()
    assert (found.argmax(1) == logits(digits, 2, images).argmax(1)).all()
    assert (found.argmax(1) == labels).mean() > 0.99
    bright = images * BRIGHTER
    assert np.isnan(logits(digits, 4, bright)).all()
    live = logits(digits, 2, bright)
    assert np.isfinite(live).all()
    assert (live.argmax(1) == labels).mean() > 0.95


def test_v4_passes_the_made_up_inputs_of_a_trial(digits: Path) -> None:
    model = Model.open(digits / "digits_v4_int8.onnx")
    for seed in range(GENERATED):
        (found,) = model.run(model.generate(seed)).values()
        assert np.isfinite(found).all()


def test_they_are_small_enough_to_commit(digits: Path) -> None:
    for version in (3, 4):
        assert (digits / f"digits_v{version}_int8.onnx").stat().st_size < 50_000
