"""What every step keeps: it is in a table, and it changes nothing that it was given."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from edged.config.steps import (
    Argmax,
    Cast,
    Labels,
    MinScore,
    Normalize,
    Postprocess,
    Preprocess,
    Reshape,
    Round,
    Scale,
    Sigmoid,
    Softmax,
    TopK,
    UseOutput,
)
from edged.worker.steps.ranking import RANKINGS
from edged.worker.steps.table import PREPROCESS, SCORES, postprocess, preprocess

BEFORE: list[Preprocess] = [Scale(0.5), Normalize((1.0,), (2.0,)), Reshape((3, 2)), Cast("float32")]
AFTER: list[Postprocess] = [
    UseOutput("y"),
    Softmax(),
    Sigmoid(),
    Round(1),
    Argmax(),
    TopK(2),
    Labels(("a", "b", "c")),
    MinScore(0.1),
]


def test_every_step_of_the_configuration_has_its_function() -> None:
    assert set(PREPROCESS) == set(get_args(Preprocess)) == {type(step) for step in BEFORE}
    assert {*SCORES, *RANKINGS, UseOutput} == set(get_args(Postprocess)) == {type(step) for step in AFTER}


@pytest.mark.parametrize("step", BEFORE)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "float64"])
def test_a_step_before_works_on_what_nobody_may_write(step: Any, dtype: str) -> None:
    array = np.arange(6, dtype=dtype)
    array.flags.writeable = False  # as what is read from a message
    found = preprocess([step], array)
    assert isinstance(found, np.ndarray)
    assert found.size == 6
    assert array.tolist() == list(range(6))


@pytest.mark.parametrize("step", AFTER)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_step_behind_leaves_the_models_output_as_it_is(step: Any, dtype: str) -> None:
    outputs = {"y": np.array([[0.25, 2.5, 1.5]], dtype=dtype)}
    changed, prediction = postprocess([step], outputs)
    assert outputs["y"].tolist() == [[0.25, 2.5, 1.5]]
    assert changed["y"].dtype == dtype
    assert changed["y"].shape == (1, 3)
    assert (prediction is not None) == (type(step) in RANKINGS)
