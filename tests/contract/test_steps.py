"""What every step keeps: it is in a table, and it changes nothing that it was given."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from edged.config.steps import (
    Argmax,
    Cast,
    Channels,
    Crop,
    Detect,
    Error,
    Labels,
    Layout,
    MinScore,
    Normalize,
    Pad,
    Postprocess,
    Preprocess,
    Reshape,
    Resize,
    Round,
    Scale,
    Sigmoid,
    Softmax,
    TopK,
    UseOutput,
)
from edged.errors import EdgedError
from edged.worker.steps.ranking import RANKINGS
from edged.worker.steps.table import ARRAYS, PICTURES, SCORES, postprocess, preprocess

BEFORE: list[Preprocess] = [Scale(0.5), Normalize((1.0,), (2.0,)), Reshape((3, 2)), Cast("float32"), Pad(8, 1.0)]
LAYOUTS: list[Preprocess] = [Layout("chw"), Layout("hwc")]
ON_PICTURES: list[Preprocess] = [
    Resize(size=(2, 5)),
    Resize(short_side=2),
    Resize(letterbox=(6, 5)),
    Crop((2, 1)),
    Channels("rgb"),
    Channels("bgr"),
    Channels("gray"),
]
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
    tried = {type(step) for step in BEFORE + LAYOUTS + ON_PICTURES}
    assert {*ARRAYS, *PICTURES} == set(get_args(Preprocess)) == tried
    assert {*SCORES, *RANKINGS, UseOutput, Detect, Error} == set(get_args(Postprocess))
    assert {type(step) for step in AFTER} | {Detect, Error} == set(get_args(Postprocess))


@pytest.mark.parametrize("step", BEFORE)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "float64"])
def test_a_step_before_works_on_what_nobody_may_write(step: Any, dtype: str) -> None:
    array = np.arange(6, dtype=dtype)
    array.flags.writeable = False  # as what is read from a message
    found, view = preprocess([step], array)
    assert isinstance(found, np.ndarray)
    assert found.size == (8 if isinstance(step, Pad) else 6)
    assert view is None
    assert array.tolist() == list(range(6))


@pytest.mark.parametrize("step", LAYOUTS + ON_PICTURES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_step_for_pictures_works_on_pixels_that_nobody_may_write(step: Any, channels: int) -> None:
    array = np.arange(4 * 3 * channels, dtype=np.uint8).reshape(4, 3, channels)
    array.flags.writeable = False
    found, view = preprocess([step], array)
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert found.flags.c_contiguous
    assert array.ravel().tolist() == list(range(array.size))
    assert (view is None) == (step in LAYOUTS)
    if view is not None:
        assert (view.height, view.width) == found.shape[:2]


@pytest.mark.parametrize("step", ON_PICTURES)
@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 3, 3)),
        np.zeros((2, 4, 3, 3), np.uint8),
        np.zeros((4, 3, 4), np.uint8),
        np.zeros((0, 3, 3), np.uint8),
    ],
)
def test_a_step_for_pictures_refuses_what_is_none(step: Any, array: Any) -> None:
    with pytest.raises(EdgedError, match="a step for pictures has") as caught:
        preprocess([step], array)
    assert caught.value.fault.code == "bad_input"


@pytest.mark.parametrize("step", AFTER)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_step_behind_leaves_the_models_output_as_it_is(step: Any, dtype: str) -> None:
    outputs = {"y": np.array([[0.25, 2.5, 1.5]], dtype=dtype)}
    changed, found = postprocess([step], outputs, {})
    assert outputs["y"].tolist() == [[0.25, 2.5, 1.5]]
    assert changed["y"].dtype == dtype
    assert changed["y"].shape == (1, 3)
    assert (found is not None) == (type(step) in RANKINGS)
