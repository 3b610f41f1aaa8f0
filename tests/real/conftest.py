"""Real inputs, and what plain onnxruntime answered to them: the folder that $EDGED_TEST_DATA names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.brokers import Mosquitto, have_mosquitto

Case = dict[str, Any]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker for the module's one daemon; thousands of messages may wait at it."""
    if not have_mosquitto():
        pytest.skip("mosquitto is not installed; scripts/test installs it")
    with Mosquitto(tmp_path_factory.mktemp("broker"), "max_queued_messages 0") as running:
        yield running


@pytest.fixture(scope="session")
def expected(data: Path) -> Callable[[str, str], Case]:
    """`expected(model, input)`: the case of expected.json."""
    cases = json.loads((data / "expected.json").read_text())["cases"]

    def find(model: str, given: str) -> Case:
        found: Case = next(one for one in cases if one.get("model") == model and one["input"] == given)
        return found

    return find


@pytest.fixture(scope="session")
def arrays(data: Path) -> Callable[[str], dict[str, np.ndarray[Any, Any]]]:
    """`arrays("digits_test.npz")`: an input file's arrays by name."""

    def load(name: str) -> dict[str, np.ndarray[Any, Any]]:
        with np.load(data / "inputs" / name) as file:
            return dict(file)

    return load
