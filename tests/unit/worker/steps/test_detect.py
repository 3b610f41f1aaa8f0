"""detect: candidates, non-maximum suppression, and boxes in pixels of the picture sent."""

from __future__ import annotations

import itertools
from typing import Any

import hypothesis.extra.numpy as hnp
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.steps import (
    Argmax,
    Detect,
    Error,
    Labels,
    MinScore,
    Postprocess,
    Round,
    Sigmoid,
    Softmax,
    TopK,
    UseOutput,
)
from edged.errors import EdgedError
from edged.tensors import Signature, TensorSpec
from edged.worker.formats.decoded import Array
from edged.worker.steps.check import check
from edged.worker.steps.detect import suppress
from edged.worker.steps.table import Result, outputs_used, postprocess
from edged.worker.view import View

SSD = Detect(boxes="boxes", scores="scores")
WHOLE = View.whole(200, 100)

# Two candidates of one object, one of another, one that scores too low; fractions of the picture.
BOXES = np.array([[[0.1, 0.2, 0.3, 0.6], [0.11, 0.2, 0.3, 0.62], [0.5, 0.5, 0.9, 1.0], [0, 0, 1, 1]]], np.float32)
SCORES = np.array([[[0.8, 0.1], [0.9, 0.1], [0.2, 0.7], [0.4, 0.4]]], np.float32)


def result(boxes: Array, scores: Array, *steps: Postprocess) -> Result:
    outputs = {"boxes": np.asarray(boxes), "scores": np.asarray(scores)}
    found = postprocess(steps or (SSD,), outputs, {})[1]
    assert found is not None
    assert found.key == "detections"
    return found


def detections(boxes: Array, scores: Array, *steps: Postprocess, view: View | None = WHOLE) -> list[Any]:
    return result(boxes, scores, *steps).of(0, 1, view, {})["detections"]


def test_one_box_for_each_object_best_first() -> None:
    assert detections(BOXES, SCORES) == [
        {"index": 0, "score": pytest.approx(0.9), "box": [22.0, 20.0, 60.0, 62.0]},
        {"index": 1, "score": pytest.approx(0.7), "box": [100.0, 50.0, 180.0, 100.0]},
    ]


def test_names_lowest_score_and_decimals() -> None:
    steps = (SSD, Labels(("cat", "dog")), MinScore(0.75), Round(1))
    assert detections(BOXES, SCORES, *steps) == [
        {"label": "cat", "index": 0, "score": 0.9, "box": [22.0, 20.0, 60.0, 62.0]}
    ]


def test_boxes_are_put_back_through_letterbox_and_crop() -> None:
    """A picture of 400 x 200 was made 100 x 50 and stands in the middle of 100 x 100."""
    view = View.whole(400, 200).resized(100, 50).cropped(0, -25, 100, 100)
    boxes = np.array([[[0.1, 0.3, 0.2, 0.5], [0.0, 0.0, 0.5, 0.5], [0, 0, 1, 0.2]]])
    found = detections(boxes, np.array([[0.9, 0.8, 0.7]]), view=view)
    assert [one["box"] for one in found] == [[40, 20, 80, 100], [0, 0, 200, 100]], "the last one is beside the picture"


def test_pixels_and_centres() -> None:
    pixels = Detect(boxes="boxes", scores="scores", format="cxcywh", unit="pixels")
    boxes = np.array([[[20, 30, 10, 20]]], np.float32)
    assert detections(boxes, np.array([[0.9]]), pixels)[0]["box"] == [15, 20, 25, 40]
    resized = WHOLE.resized(100, 100)
    assert detections(boxes, np.array([[0.9]]), pixels, view=resized)[0]["box"] == [30, 20, 50, 40]
    assert detections(boxes, np.array([[0.9]]), pixels, view=None)[0]["box"] == [15, 20, 25, 40]


def test_fractions_without_a_picture_stay_fractions() -> None:
    found = detections(BOXES, SCORES, view=None)
    assert found[0]["box"] == pytest.approx([0.11, 0.2, 0.3, 0.62])
    for shape in ((1, 3, 100, 200), (1, 100, 200, 3), (100, 200, 1)):
        tensor = np.zeros(shape, np.float32)
        assert result(BOXES, SCORES).of(0, 1, None, {"x": tensor})["detections"] == detections(BOXES, SCORES)
    assert result(BOXES, SCORES).of(0, 1, None, {"x": np.zeros((1, 64))})["detections"] == found


def test_the_background_is_nothing_to_be_found() -> None:
    scores = np.array([[[0.2, 0.8], [0.9, 0.1], [0.1, 0.9], [0.45, 0.55]]])
    found = detections(BOXES, scores, Detect(boxes="boxes", scores="scores", background=0, score=0.6))
    assert [(one["index"], one["score"]) for one in found] == [(1, 0.9), (1, 0.8)]
    assert scores[0, 1, 0] == 0.9, "the answer shows it as the model gave it"
    assert detections(BOXES, np.full((1, 4, 1), 0.9), Detect(boxes="boxes", scores="scores", background=0)) == []


def test_yolov8_has_all_in_one_output() -> None:
    """[rows, 4 + classes, n]: centres and sizes in pixels of the model's picture, then a score for each class."""
    columns = np.array([[50, 40, 20, 10, 0.1, 0.9], [51, 40, 20, 10, 0.2, 0.8], [10, 10, 8, 8, 0.6, 0.1]], np.float32)
    output = columns.T[np.newaxis]
    (found,) = (postprocess((Detect(type="yolov8"), Labels(("a", "b"))), {"y": output}, {})[1],)
    assert found is not None
    view = View.whole(1280, 640).resized(640, 320).cropped(0, -160, 640, 640)
    assert found.of(0, 1, WHOLE, {})["detections"] == [
        {"label": "b", "index": 1, "score": pytest.approx(0.9), "box": [40, 35, 60, 45]},
        {"label": "a", "index": 0, "score": pytest.approx(0.6), "box": [6, 6, 14, 14]},
    ]
    assert found.of(0, 1, view, {})["detections"] == []  # all of it above the picture
    with pytest.raises(EdgedError, match="yolov8's is") as caught:
        postprocess((Detect(type="yolov8"),), {"y": output[:, :4]}, {})
    assert caught.value.fault.code == "model_failed"


@pytest.mark.parametrize(
    ("boxes", "scores"),
    [
        (BOXES, SCORES),
        (BOXES[0], SCORES[0]),
        (BOXES[:, :, np.newaxis], SCORES),
        (BOXES, SCORES.transpose(0, 2, 1)),
        (BOXES.astype(np.float16), SCORES.astype(np.float64)),
    ],
)
def test_shapes_that_detectors_have(boxes: Array, scores: Array) -> None:
    assert [one["index"] for one in detections(boxes, scores)] == [0, 1]


def test_a_score_alone_is_one_class() -> None:
    assert [one["index"] for one in detections(BOXES, SCORES[..., 0])] == [0]
    assert [one["index"] for one in detections(BOXES[0], SCORES[0, :, 0])] == [0]


def test_nothing_found_and_nothing_there() -> None:
    assert detections(BOXES, SCORES * 0) == []
    assert detections(np.zeros((1, 0, 4)), np.zeros((1, 0, 3))) == []
    assert detections(np.zeros((0, 4)), np.zeros(0)) == []


@pytest.mark.parametrize(
    ("boxes", "scores", "words"),
    [
        (BOXES[..., :3], SCORES, "a box has four numbers"),
        (BOXES[0, 0], SCORES, "a box has four numbers"),
        (BOXES, SCORES[:, :3], "do not belong together"),
        (BOXES, SCORES[0], "do not belong together"),
        (BOXES, SCORES[..., np.newaxis], "do not belong together"),
    ],
)
def test_outputs_that_are_no_detectors_are_the_models_fault(boxes: Array, scores: Array, words: str) -> None:
    with pytest.raises(EdgedError, match=words) as caught:
        result(boxes, scores)
    assert caught.value.fault.code == "model_failed"


def test_pixels_taken_for_fractions_are_told() -> None:
    with pytest.raises(EdgedError, match="a box reaches to 100, which is no fraction") as caught:
        result(BOXES * 100, SCORES)
    assert caught.value.fault.code == "bad_config"
    assert "unit: pixels" in caught.value.fault.hint


def test_numbers_that_are_none_find_nothing() -> None:
    broken = BOXES.copy()
    for bad in (np.nan, np.inf):
        for unit in ("fraction", "pixels"):
            broken[0, 1] = [0, 0, 1, bad]
            step = msgspec.structs.replace(SSD, unit=unit)
            assert detections(broken, SCORES, step)[0]["score"] == pytest.approx(0.8)
    assert detections(BOXES, np.full_like(SCORES, np.nan)) == []
    assert detections(BOXES[..., [2, 3, 0, 1]], SCORES) == []  # corners the wrong way round


def test_rows_are_found_each_for_itself() -> None:
    found = result(np.concatenate([BOXES, BOXES]), np.concatenate([SCORES * 0, SCORES]))
    assert found.of(0, 1, WHOLE, {})["detections"] == []
    assert found.of(1, 1, WHOLE, {})["detections"] == detections(BOXES, SCORES)
    assert found.of(0, 2, WHOLE, {})["detections"] == [[], detections(BOXES, SCORES)]


def overlap(one: Array, other: Array) -> float:
    """Intersection over union, as the word says."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(width * height / (sum(areas) - width * height))


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 25), st.just(4)), elements=st.integers(1, 9)),
    st.data(),
    st.sampled_from([0.0, 0.3, 0.45, 1.0]),
    st.integers(1, 30),
)
def test_suppression_is_greedy(boxes: Array, data: st.DataObject, iou: float, most: int) -> None:
    """Each kept box is apart from all kept before it; each other one lies over a better one of its class."""
    boxes[:, 2:] += boxes[:, :2]
    classes = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(boxes), max_size=len(boxes))), dtype=int)
    kept = suppress(boxes, classes, iou=iou, most=most)

    def alike(a: int, b: int) -> bool:
        return classes[a] == classes[b] and overlap(boxes[a], boxes[b]) > iou + 1e-12

    assert kept == sorted(set(kept))
    assert not any(alike(a, b) for a, b in itertools.combinations(kept, 2))
    end = len(boxes) if len(kept) < most else kept[-1]
    assert len(kept) <= most
    assert all(any(alike(a, b) for a in kept if a < b) for b in range(end) if b not in kept)


# --- error ------------------------------------------------------------------------------------------


def test_error_is_the_distance_from_the_input() -> None:
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    y = np.array([[1, 2, 6], [4, 4, 4]], np.float32)

    def errors(*steps: Postprocess, rows: int = 2) -> Any:
        outputs, found = postprocess(steps, {"y": y[:rows]}, {"x": x[:rows]})
        assert found is not None
        assert outputs["y"].tolist() == y[:rows].tolist()
        return found.of(0, rows, None, {})["prediction"]

    assert errors(Error("x")) == [[{"index": 0, "score": 3.0}], [{"index": 0, "score": pytest.approx(5 / 3)}]]
    assert errors(Error("x", "mae"), rows=1) == [{"index": 0, "score": 1.0}]
    steps = (Error("x"), Labels(("anomaly",)), MinScore(2), Round(1))
    assert errors(*steps) == [[{"label": "anomaly", "index": 0, "score": 3.0}], []]
    one = postprocess((Error("x"),), {"y": np.array([1, 2], np.int64)}, {"x": np.array([1, 4], np.uint8)})[1]
    assert one is not None
    assert one.rows == [[{"index": 0, "score": 2.0}]]
    with pytest.raises(EdgedError, match=r"shape \[2, 3\], the input x \[1, 3\]"):
        postprocess((Error("x"),), {"y": y}, {"x": x[:1]})


# --- at load ------------------------------------------------------------------------------------------

MODEL = Signature(
    (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("text", "BYTES", (-1, 3))),
    (
        TensorSpec("boxes", "FP32", (1, 4420, 4)),
        TensorSpec("scores", "FP32", (1, 4420, 2)),
        TensorSpec("yolo", "FP32", (1, 84, 8400)),
        TensorSpec("free", "FP32", (-1, -1, -1)),
        TensorSpec("copy", "FP32", (-1, 3)),
        TensorSpec("few", "FP32", (1, 100)),
        TensorSpec("maybe", "FP32", (1, 4420, 4), optional=True),
        TensorSpec("words", "BYTES", (-1, 3)),
        TensorSpec("seen", "BOOL", (1, 4420, 2)),
    ),
)


@pytest.mark.parametrize(
    "steps",
    [
        (SSD,),
        (SSD, Labels(("none", "face")), MinScore(0.6), Round(2)),
        (UseOutput("scores"), Softmax(), Detect(boxes="boxes", scores="scores", background=1)),
        (UseOutput("yolo"), Detect(type="yolov8"), Labels(("a",) * 80)),
        (UseOutput("free"), Detect(type="yolov8"), Labels(("a",))),
        (Detect(boxes="free", scores="free"),),
        (Detect(boxes="boxes", scores="free"), Labels(("a",))),
        (UseOutput("copy"), Error("x"), MinScore(0.1), Labels(("odd",))),
    ],
)
def test_steps_that_fit(steps: tuple[Postprocess, ...]) -> None:
    assert check((), steps, MODEL) == []


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((Detect(boxes="box", scores="scores"),), "detect: the model has no output 'box' (did you mean boxes?)"),
        (
            (Detect(boxes="scores", scores="scores"),),
            "boxes: output scores FP32[1, 4420, 2] does not have four numbers",
        ),
        ((Detect(boxes="boxes", scores="few"),), "do not belong together"),
        ((Detect(boxes="boxes", scores="yolo"),), "do not belong together"),
        ((Detect(boxes="boxes", scores="scores", background=2),), "background: 2 of 2 classes"),
        ((SSD, Labels(("face",))), "detect: 2 classes, and labels has 1 names"),
        ((UseOutput("copy"), Detect(type="yolov8")), "output copy FP32[-1, 3] is not yolov8's"),
        ((UseOutput("yolo"), Detect(type="yolov8"), Labels(("a",) * 79)), "80 classes, and labels has 79"),
        ((SSD, Sigmoid()), "sigmoid: comes after detect"),
        ((SSD, TopK(2)), "top_k: detect is there too; keep one of them"),
        ((Argmax(), SSD), "detect: argmax is there too; keep one of them"),
        ((Labels(("a", "b", "c", "d")), SSD), "detect: labels is there too"),
        ((Detect(boxes="maybe", scores="scores"),), "detect: output maybe FP32[1, 4420, 4], optional may be left out"),
        ((Detect(boxes="boxes", scores="seen"),), "detect: output seen BOOL[1, 4420, 2] has no numbers"),
        ((UseOutput("words"), Detect(type="yolov8")), "output words BYTES[-1, 3] has strings"),
        ((UseOutput("words"), Error("x")), "error: output words BYTES[-1, 3] has strings"),
        ((UseOutput("copy"), Error("y")), "error: the model has no input 'y'"),
        ((UseOutput("copy"), Error("text")), "input text BYTES[-1, 3] has strings"),
        ((Error("x"),), "output boxes FP32[1, 4420, 4] has another shape than input x FP32[-1, 3]"),
    ],
)
def test_steps_that_cannot_fit(steps: tuple[Postprocess, ...], words: str) -> None:
    (found,) = check((), steps, MODEL)
    assert words in found


def test_the_outputs_that_are_read() -> None:
    assert outputs_used((SSD,), MODEL) == ("boxes", "scores")
    assert outputs_used((UseOutput("yolo"), Detect(type="yolov8")), MODEL) == ("yolo",)
    assert outputs_used((UseOutput("copy"), Error("x")), MODEL) == ("copy",)
