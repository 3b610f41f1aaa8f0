"""softmax, sigmoid, round and the predictions against plain numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hypothesis.extra.numpy as hnp
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.steps import Argmax, Labels, MinScore, Postprocess, Round, Sigmoid, Softmax, TopK, UseOutput
from edged.tensors import Signature, TensorSpec
from edged.worker.formats.decoded import Array
from edged.worker.steps.scores import by_class
from edged.worker.steps.table import Result, outputs_used, postprocess, rounded_to

LOGITS = np.array([[1.0, 3.0, 2.0, 3.0]], dtype=np.float32)
NAMES = ("a", "b", "c", "d")


def listed(found: Result | None) -> Any:
    """The prediction of one input."""
    return None if found is None else found.of(0, len(found.rows), None, {})["prediction"]


def values(array: Array, *steps: Postprocess) -> Array:
    outputs, _ = postprocess(steps, {"y": array}, {})
    return outputs["y"]


def predicted(array: Array, *steps: Postprocess) -> Any:
    return listed(postprocess(steps, {"y": array}, {})[1])


def indices(array: Array, *steps: Postprocess) -> list[int]:
    return [entry["index"] for entry in predicted(array, *steps)]


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((), (1,)),
        ((10,), (10,)),
        ((1, 10), (1, 10)),
        ((1, 1000, 1, 1), (1, 1000)),
        ((3, 1), (3, 1)),
        ((3, 1, 1), (3, 1)),
        ((1, 4420, 2), (1, 4420, 2)),
        ((2, 1, 5, 1), (2, 1, 5)),
    ],
)
def test_where_the_classes_are(shape: tuple[int, ...], seen: tuple[int, ...]) -> None:
    assert by_class(np.zeros(shape)).shape == seen


@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 4), (3, 4, 1, 1), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_softmax_is_its_formula(shape: tuple[int, ...], dtype: str) -> None:
    array = (3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    found = values(array, Softmax())
    assert found.dtype == dtype
    assert found.shape == shape
    powers = np.exp(by_class(array).astype(np.float64))
    expected = (powers / powers.sum(axis=-1, keepdims=True)).reshape(shape)
    assert np.allclose(found, expected, atol=1e-3 if dtype == "float16" else 1e-6)


def test_softmax_of_large_numbers_does_not_overflow() -> None:
    assert np.allclose(values(np.array([[1e4, 1e4, -1e4]], np.float32), Softmax()), [[0.5, 0.5, 0]])
    assert np.allclose(values(np.array([[6e4, 6e4]], np.float16), Softmax()), [[0.5, 0.5]])


def test_a_models_nan_stays_one_and_warns_nobody() -> None:
    broken = np.array([[1, np.nan], [1, np.inf], [0, 0]], dtype=np.float32)
    assert np.isnan(values(broken, Softmax())[:2]).any(axis=1).all()
    assert values(broken, Softmax())[2].tolist() == [0.5, 0.5]


def test_sigmoid_is_its_formula() -> None:
    array = np.array([[-1e4, -2.0, 0.0, 2.0, 1e4]], dtype=np.float32)
    found = values(array, Sigmoid())
    assert found.dtype == np.float32
    assert np.allclose(found, [[0, 1 / (1 + np.exp(2.0)), 0.5, 1 / (1 + np.exp(-2.0)), 1]])
    assert values(np.array(0.0, dtype=np.float16), Sigmoid()).dtype == np.float16


def test_round_rounds_values_and_scores() -> None:
    assert values(np.array([1.26, -0.25]), Round(1)).tolist() == [1.3, -0.2]
    assert values(np.array([12, 15]), Round(0)).tolist() == [12, 15]
    array = np.array([[0.123456, 0.9]], dtype=np.float32)
    steps = (Argmax(), Round(2))
    assert predicted(array, *steps) == [{"index": 1, "score": 0.9}]
    assert predicted(array, Round(2), TopK(2)) == predicted(array, TopK(2), Round(2))
    assert [entry["score"] for entry in predicted(array, TopK(2), Round(2))] == [0.9, 0.12]
    assert predicted(array, Round(2), Sigmoid(), Argmax())[0]["score"] == pytest.approx(1 / (1 + np.exp(-0.9)))
    assert values(array, *steps).dtype == np.float32


def test_argmax_and_top_k() -> None:
    assert predicted(LOGITS, Argmax()) == [{"index": 1, "score": 3.0}]
    assert indices(LOGITS, TopK(3)) == [1, 3, 2]  # of equal scores the lower index first
    assert indices(LOGITS, TopK(99)) == [1, 3, 2, 0]
    assert predicted(LOGITS.reshape(1, 4, 1, 1), Argmax()) == [{"index": 1, "score": 3.0}]
    assert predicted(LOGITS[0], Argmax()) == [{"index": 1, "score": 3.0}]
    assert predicted(np.array(0.5), Argmax()) == [{"index": 0, "score": 0.5}]
    assert predicted(np.zeros((1, 0), np.float32), Argmax()) == []


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64", "int64", "bool", "float16"])
def test_every_numeric_output_can_be_ranked(dtype: str) -> None:
    array = np.array([[0, 1, 0, 1]]).astype(dtype)
    assert indices(array, TopK(4)) == [1, 3, 0, 2]
    assert indices(array, Argmax()) == [1]


def test_nan_comes_last() -> None:
    array = np.array([[np.nan, -1, np.nan, -np.inf, 5]], dtype=np.float32)
    assert indices(array, TopK(5)) == [4, 1, 3, 0, 2]
    assert indices(array, Argmax()) == [4]
    assert indices(np.full((1, 3), np.nan), Argmax()) == [0]
    assert msgspec.json.encode(predicted(array, TopK(5))).count(b"null") == 3
    assert np.isnan(array[0, 0]), "the model's own output is not touched"


def test_labels_and_min_score() -> None:
    assert predicted(LOGITS, TopK(2), Labels(NAMES)) == [
        {"label": "b", "index": 1, "score": 3.0},
        {"label": "d", "index": 3, "score": 3.0},
    ]
    assert list(predicted(LOGITS, Argmax(), Labels(NAMES))[0]) == ["label", "index", "score"]
    assert predicted(LOGITS, Argmax(), Labels(("a",))) == [{"index": 1, "score": 3.0}]
    assert indices(LOGITS, TopK(3), MinScore(3.0)) == [1, 3]
    assert indices(LOGITS, MinScore(2.0), TopK(3)) == [1, 3, 2]
    assert indices(LOGITS, Argmax(), MinScore(3.5)) == []
    assert indices(np.array([[np.nan, 1.0]]), TopK(2), MinScore(0.0)) == [1]


def test_without_argmax_or_top_k_every_class_is_listed_best_first() -> None:
    assert indices(LOGITS, Labels(NAMES)) == [1, 3, 2, 0]
    assert indices(np.array([[-3.0, 4.0, 1.0]]), Sigmoid(), MinScore(0.5)) == [1, 2]


def test_the_usual_chain() -> None:
    found = predicted(LOGITS, Softmax(), TopK(1), Labels(NAMES), Round(3))
    expected = np.exp(3) / np.exp([1.0, 3, 2, 3]).sum()
    assert found == [{"label": "b", "index": 1, "score": round(float(expected), 3)}]


def test_another_output_is_chosen_by_its_name() -> None:
    outputs = {"y": LOGITS, "z": -LOGITS}
    changed, result = postprocess([UseOutput("z"), Softmax(), Argmax()], outputs, {})
    found = listed(result)
    assert found is not None
    assert found[0]["index"] == 0
    assert changed["y"] is LOGITS
    assert changed["z"].sum() == pytest.approx(1)
    assert outputs["z"].tolist() == (-LOGITS).tolist(), "the model's own output is not touched"
    both, _ = postprocess([Softmax(), UseOutput("z"), Sigmoid()], outputs, {})
    assert both["y"].sum() == pytest.approx(1)


def test_no_steps_no_prediction() -> None:
    outputs = {"y": LOGITS}
    assert postprocess([], outputs, {}) == (outputs, None)
    assert postprocess([Softmax()], outputs, {})[1] is None


def test_several_rows_are_a_list_of_lists() -> None:
    rows = np.array([[1, 2], [4, 3], [0, 9]], dtype=np.float32)
    found = predicted(rows, Argmax())
    assert [[entry["index"] for entry in row] for row in found] == [[1], [0], [1]]


def test_places_between_rows_and_classes_are_lists_of_their_own() -> None:
    array = np.array([[[1, 2], [2, 1], [0, 5]]])
    assert [[e["index"] for e in place] for place in predicted(array, Argmax())] == [[1], [0], [1]]
    two = predicted(np.concatenate([array, -array]), Argmax())
    assert [[[e["index"] for e in place] for place in row] for row in two] == [[[1], [0], [1]], [[0], [1], [0]]]


CHAINS: Sequence[Sequence[Postprocess]] = [
    (Softmax(), TopK(2), Labels(NAMES)),
    (Sigmoid(), MinScore(0.5)),
    (Argmax(), Round(1)),
    (Softmax(), Round(2)),
]


@pytest.mark.parametrize("steps", CHAINS)
@given(
    array=hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.floats(-9, 9, width=32))
)
def test_stacked_rows_are_answered_as_they_would_be_alone(steps: Sequence[Postprocess], array: Array) -> None:
    outputs, result = postprocess(steps, {"y": array}, {})
    for index in range(len(array)):
        alone, one = postprocess(steps, {"y": array[index : index + 1]}, {})
        found = listed(one)
        assert np.allclose(alone["y"], outputs["y"][index : index + 1], atol=1e-6)
        together = None if result is None else result.of(index, 1, None, {})["prediction"]
        assert (found is None) == (together is None)
        if found is not None and together is not None:
            assert [entry["index"] for entry in found] == [entry["index"] for entry in together]


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 6)), elements=st.floats(allow_nan=True)))
def test_top_k_is_a_sorted_selection(array: Array) -> None:
    _, result = postprocess([TopK(3)], {"y": array}, {})
    assert result is not None
    for row, entries in zip(array, result.rows, strict=True):
        keys = [(1, 0.0, index) if np.isnan(score) else (0, -score, index) for index, score in enumerate(row)]
        expected = [index for _, _, index in sorted(keys)]
        assert [entry["index"] for entry in entries] == expected[:3]
        best = predicted(row[np.newaxis], Argmax())
        assert best[0]["index"] == expected[0] or row[expected[0]] == -np.inf


def test_which_outputs_the_steps_read() -> None:
    signature = Signature((), (TensorSpec("y", "FP32", (-1, 4)), TensorSpec("z", "FP32", (-1, 4))))
    assert outputs_used([], signature) == ()
    assert outputs_used([Softmax(), Argmax()], signature) == ("y",)
    assert outputs_used([UseOutput("z"), Softmax()], signature) == ("z",)
    assert outputs_used([Round(2), UseOutput("z"), Softmax()], signature) == ("y", "z")


def test_which_outputs_are_rounded() -> None:
    signature = Signature((), (TensorSpec("y", "FP32", (-1, 4)), TensorSpec("z", "FP32", (-1, 4))))
    assert rounded_to([Softmax(), TopK(1)], signature) == {}
    assert rounded_to([Softmax(), Round(2), TopK(1)], signature) == {"y": 2}
    assert rounded_to([Round(2), Softmax()], signature) == {}
    assert rounded_to([Round(2), UseOutput("z"), Round(1)], signature) == {"y": 2, "z": 1}
    assert rounded_to([Round(1)], Signature((), ())) == {"": 1}
