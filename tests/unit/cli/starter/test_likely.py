"""What is likely meant: by shapes, an exporter's notes, quantizers' spans, and outputs for a made-up input."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edged.cli.starter import conventions, labels
from edged.cli.starter.likely import Likely, likely
from edged.cli.starter.results import Sample
from edged.tensors import Signature, TensorSpec
from edged.worker.clues import Clues

NOTHING = Clues("pytorch", {}, {}, {})
ULTRALYTICS = Clues("pytorch", {"author": "Ultralytics", "task": "detect", "names": "{0: 'a', 1: 'b'}"}, {}, {})
PHOTO = TensorSpec("x", "FP32", (1, 3, 224, 224))
COCO = tuple(f"class {index}" for index in range(80))


def meant(
    given: TensorSpec,
    *outputs: TensorSpec,
    clues: Clues = NOTHING,
    beside: int = 0,
    answer: dict[str, list[float]] | None = None,
) -> Likely:
    samples = {name: Sample((), list(data)) for name, data in (answer or {}).items()}
    return likely(Signature((given,), outputs), clues, samples, {beside} - {0})


def out(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, "FP32", shape)


@pytest.mark.parametrize(
    ("datatype", "shape", "found"),
    [
        ("FP32", (1, 3, 224, 192), (192, 224, 3, False)),
        ("FP16", (-1, 48, 64, 3), (64, 48, 3, True)),
        ("UINT8", (48, 64, 3), (64, 48, 3, True)),
        ("FP32", (-1, 3, -1, -1), (0, 0, 3, False)),
        ("FP32", (1, 1, 28, 28), (28, 28, 1, False)),
        ("FP32", (1, 1, 8, 8), None),  # a table of numbers to most
        ("FP32", (1, 1, 80, 3000), None),  # a spectrum
        ("FP32", (1, 1, -1, -1), None),
        ("FP32", (1, 2, 128, 128), None),
        ("FP32", (4, 3, 224, 224), None),  # four at once
        ("FP32", (48, 64, 3), None),
        ("INT64", (1, 3, 224, 224), None),
        ("FP32", (1, 3, 16, 112, 112), None),
    ],
)
def test_what_is_a_picture(datatype: str, shape: tuple[int, ...], found: tuple[int, int, int, bool] | None) -> None:
    frame = conventions.frame_of(TensorSpec("x", datatype, shape))
    assert (frame and (frame.width, frame.height, frame.channels, frame.last)) == found


@pytest.mark.parametrize(
    ("low", "high", "picked"),
    [
        (0.0, 255.0, conventions.AS_THEY_ARE),
        (0.0, 0.98, conventions.UNIT),
        (-1.0, 1.0, conventions.SIGNED),
        (-0.9921875, 1.0, conventions.SSD),
        (-2.118, 2.5, conventions.IMAGENET),
        (-123.9, 150.8, conventions.CAFFE),
    ],
)
def test_a_quantizers_span_tells_the_convention(low: float, high: float, picked: conventions.Convention) -> None:
    clues = msgspec.structs.replace(NOTHING, spans={"x": (low, high)})
    found = meant(PHOTO, out("y", 1, 7), clues=clues)
    assert set(picked.steps) <= set(found.before)
    assert ("channels: bgr" in found.before) == picked.bgr
    assert not found.before_why.startswith("a guess")


def test_a_span_that_is_nobodys_is_made_as_it_is() -> None:
    clues = msgspec.structs.replace(NOTHING, spans={"x": (-4.0, 6.0)})
    found = meant(PHOTO, out("y", 1, 7), clues=clues)
    assert found.before[-1] == "normalize: {mean: 102, std: 25.5}"  # (0 - 102) / 25.5 = -4, (255 - 102) / 25.5 = 6
    assert found.before_why.startswith("a guess")


def test_grey_pictures_have_no_steps_for_three_channels() -> None:
    clues = msgspec.structs.replace(NOTHING, spans={"x": (-2.118, 2.64)})
    found = meant(TensorSpec("x", "FP32", (1, 1, 28, 28)), out("y", 1, 7), clues=clues)
    assert found.before[:3] == ("resize: [28, 28]", "channels: gray", "layout: chw")
    assert "[" not in found.before[-1]


@pytest.mark.parametrize(
    ("clues", "given", "classes", "step"),
    [
        (NOTHING, PHOTO, 7, conventions.UNIT),
        (NOTHING, PHOTO, 1000, conventions.IMAGENET),
        (NOTHING, TensorSpec("x", "FP32", (1, 224, 224, 3)), 7, conventions.SIGNED),
        (NOTHING, TensorSpec("data_0", "FP32", PHOTO.shape), 1000, conventions.CAFFE),
        (ULTRALYTICS, PHOTO, 1000, conventions.UNIT),
        (Clues("CNTK", {}, {}, {}), PHOTO, 7, conventions.AS_THEY_ARE),
        (Clues("tf2onnx", {}, {}, {"x": frozenset({"Mul", "Sub"})}), PHOTO, 7, conventions.AS_THEY_ARE),
        (NOTHING, TensorSpec("x", "UINT8", PHOTO.shape), 7, conventions.AS_THEY_ARE),
    ],
)
def test_what_is_guessed_by_whose_it_is(
    clues: Clues, given: TensorSpec, classes: int, step: conventions.Convention
) -> None:
    found = meant(given, out("y", 1, classes), clues=clues)
    assert [one for one in found.before if one.startswith("normalize")] == list(step.steps)


def test_imagenets_pictures_are_cut_from_the_middle() -> None:
    assert meant(PHOTO, out("y", 1, 1000)).before[:2] == ("resize: {short_side: 256}", "crop: [224, 224]")
    assert meant(PHOTO, out("y", 1, 12)).before[0] == "resize: [224, 224]"


@pytest.mark.parametrize(
    ("output", "data", "steps"),
    [
        (out("y", 1, 3), [0.2, 0.3, 0.5], ("top_k: 3",)),  # they add up
        (out("y", 1, 3), [0.2, 0.3, 0.1], ()),  # nothing says that they are classes
        (out("class_scores", 1, 3), [0.2, 0.3, 0.1], ("top_k: 3",)),  # each for itself
        (out("logits", -1, 2), [-4.0, 7.0], ("softmax", "top_k: 2")),
        (out("logits", -1, 2), [], ("softmax", "top_k: 2")),
        (out("probabilities", 1, 5, 1, 1), [], ("softmax", "top_k: 3")),
        (out("forecast", -1, 12), [80.0] * 12, ()),
        (out("logits", 1, 9, 9), [], ()),
        (out("logits", 1, 1), [], ()),
        (TensorSpec("label", "INT64", (-1, 3)), [], ()),
        (TensorSpec("logits", "FP32", (-1, 3), optional=True), [], ()),
    ],
)
def test_what_is_a_class(output: TensorSpec, data: list[float], steps: tuple[str, ...]) -> None:
    answer = {output.name: data} if data else {}
    found = meant(TensorSpec("x", "FP32", (1, 5)), output, answer=answer)
    assert found.after == steps


def test_the_second_output_may_be_the_one() -> None:
    found = meant(TensorSpec("x", "FP32", (1, 5)), out("features", 1, 64), out("all logits", 1, 3))
    assert found.after == ('output: "all logits"', "softmax", "top_k: 3")


def test_a_list_of_names_beside_the_file_tells_classes() -> None:
    assert meant(TensorSpec("x", "FP32", (1, 5)), out("y", 1, 3), beside=3).after == ("softmax", "top_k: 3")
    assert meant(TensorSpec("x", "FP32", (1, 5)), out("y", 1, 3), beside=4).after == ()


def test_an_embedding_is_no_class() -> None:
    assert meant(PHOTO, out("y", 1, 512)).after == ()
    assert meant(PHOTO, out("y", 1, 10)).after == ("softmax", "top_k: 3")


# --- objects ----------------------------------------------------------------------------------------

BOXES, SCORES = out("boxes", 1, 2, 4), out("scores", 1, 2, 3)
CORNERS = [0.1, 0.1, 0.3, 0.2, 0.5, 0.5, 0.6, 0.9]


@pytest.mark.parametrize(
    ("boxes", "scores", "more"),
    [
        (CORNERS, [0.1, 0.7, 0.5, 0.2, 0.9, 0.9], ""),
        (CORNERS, [0.1, 0.7, 0.2, 0.2, 0.5, 0.3], ", background: 0"),
        ([100 * side for side in CORNERS], [0.1, 0.7, 0.5, 0.2, 0.9, 0.9], ", unit: pixels"),
        ([0.5, 0.5, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1], [0.1, 0.7, 0.5, 0.2, 0.9, 0.9], ", format: cxcywh"),
    ],
)
def test_boxes_are_read_by_what_they_were(boxes: list[float], scores: list[float], more: str) -> None:
    found = meant(PHOTO, SCORES, BOXES, answer={"boxes": boxes, "scores": scores})
    assert found.after == (f"detect: {{boxes: boxes, scores: scores{more}}}",)
    assert found.classes == 3
    assert conventions.SSD.steps[0] in found.before


def test_boxes_whose_scores_are_no_probabilities_are_left_to_people() -> None:
    found = meant(PHOTO, BOXES, SCORES, answer={"boxes": CORNERS, "scores": [-4.0, 3.0, 0, 0, 0, 0]})
    assert found.after == ()
    assert "docs/formats.md" in found.notes[0]


def test_boxes_without_a_picture_are_numbers() -> None:
    assert meant(TensorSpec("x", "FP32", (1, 5)), BOXES, out("s", 1, 2)).after == ()


def test_yolo_is_known_by_its_grids() -> None:
    picture = TensorSpec("images", "FP32", (1, 3, 480, 640))
    places = 80 * 60 + 40 * 30 + 20 * 15
    found = meant(picture, out("output0", 1, 84, places))
    assert found.after == ("detect: {type: yolov8}",)
    assert found.before[0] == "resize: {letterbox: [640, 480]}"
    assert meant(picture, out("output0", 1, 84, places + 1)).after == ()
    assert meant(picture, out("output0", 1, places, 85)).after == ()  # YOLOv5's


def test_yolo_with_free_sizes_is_known_by_its_notes() -> None:
    picture = TensorSpec("images", "FP32", (-1, 3, -1, -1))
    found = meant(picture, out("output0", -1, -1, -1), clues=ULTRALYTICS)
    assert (found.after, found.labels) == (("detect: {type: yolov8}",), ("a", "b"))
    assert found.before[0] == "resize: {letterbox: [640, 640]}"
    sized = msgspec.structs.replace(ULTRALYTICS, metadata={**ULTRALYTICS.metadata, "imgsz": "[320, 416]"})
    assert meant(picture, out("output0", -1, 6, -1), clues=sized).before[0] == "resize: {letterbox: [416, 320]}"


def test_what_no_step_is_for_is_said() -> None:
    clues = msgspec.structs.replace(ULTRALYTICS, metadata={**ULTRALYTICS.metadata, "task": "pose"})
    found = meant(TensorSpec("images", "FP32", (1, 3, 640, 640)), out("output0", 1, 56, 8400), clues=clues)
    assert (found.after, "for pose" in found.notes[0]) == ((), True)


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{0: 'person', 1: 'do\"g'}", ("person", 'do"g')),
        ('["person", "dog"]', ("person", "dog")),
        ("{1: 'dog', 0: 'person'}", ("person", "dog")),
        ("{0: 'person', 2: 'dog'}", ()),
        ("[1, 2]", ("1", "2")),
        ("['a', ['b']]", ()),
        ("['${HOME}']", ()),
        ("['']", ()),
        (r"['\x07']", ()),
        ("[", ()),
        ("__import__('os')", ()),
        ("[" * 100_000, ()),
        ("{[]: 1}", ()),
        ("", ()),
    ],
)
def test_names_among_the_notes(text: str, names: tuple[str, ...]) -> None:
    assert labels.noted({"names": text}) == names


def test_names_beside_the_file(tmp_path: Path) -> None:
    for name, text in [
        ("birds.txt", "a\nb\n"),
        ("labels.txt", "a\nb\nc\n"),
        ("coco.names", "a\n"),
        ("readme.txt", "a\nb\n"),
        ("class-gaps.txt", "a\n\nb\n"),
    ]:
        (tmp_path / name).write_text(text)
    (tmp_path / "labels-latin.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "labels.names").mkdir()
    found = [(path.name, count) for path, count in labels.beside(tmp_path / "birds.onnx")]
    assert found == [("birds.txt", 2), ("labels.txt", 3), ("coco.names", 1)]
