"""config.chain: the steps that are written with keys of their own."""

from __future__ import annotations

import pytest

from edged.config.steps import Channels, Crop, Detect, Error, Layout, Pad, Resize
from tests.unit.config.folder import Folder

SIZE = "expected [width, height] (such as [224, 224])"
WAYS = "expected one way to resize ([W, H], {short_side: N} or {letterbox: [W, H]})"


YOLO = "yolov8 has boxes and scores in one output, in pixels (it takes score, iou and max)"


def model(steps: str, section: str = "preprocess") -> str:
    return f"models: {{a: {{{section}: [{steps}]}}}}\n"


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("{resize: [224, 112]}", Resize(size=(224, 112))),
        ("{resize: {short_side: 256}}", Resize(short_side=256)),
        ("{resize: {letterbox: [640, 480]}}", Resize(letterbox=(640, 480), fill=114)),
        ("{resize: {letterbox: [640, 480], fill: 0}}", Resize(letterbox=(640, 480), fill=0)),
        ("{crop: [8, 9]}", Crop((8, 9))),
        ("{channels: gray}", Channels("gray")),
        ("{layout: chw}", Layout("chw")),
        ("{pad: {to: 128, value: -1}}", Pad(128, -1.0)),
        ("{pad: {to: 128}}", Pad(128, 0.0)),
    ],
)
def test_steps_become_values(folder: Folder, text: str, step: object) -> None:
    (found,) = folder.load(model(text)).models
    assert found.preprocess == (step,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resize", "resize: needs a value (resize: {letterbox: [640, 640], fill: 114})"),
        ("{resize: 224}", "resize: expected keys and values, found '224' (did you mean resize: {short_side: 224}?)"),
        ("{resize: [224]}", f"resize: {SIZE}"),
        ("{resize: [224, 0]}", "resize[1]: 0 is out of range (it takes 1 to 16384)"),
        ("{resize: [1, 2, 3]}", f"resize: {SIZE}"),
        ("{resize: {letterbox: 640}}", "resize.letterbox: expected a list, found '640' (such as [640, 640])"),
        ("{crop: 224}", "crop: expected a list, found '224' (such as [224, 224])"),
        ("{crop: middle}", "crop: expected a list, found 'middle' (such as [a, b])"),
        ("{resize: {}}", f"resize: {WAYS}"),
        ("{resize: {short_side: 256, letterbox: [1, 1]}}", f"resize: {WAYS}"),
        ("{resize: {short_side: 256, fill: 0}}", "resize: fill is for letterbox (take it out)"),
        ("{resize: {letterbox: [1, 1], fill: 256}}", "resize.fill: 256 is out of range (it takes 0 to 255)"),
        ("{resize: {longest: 1}}", "resize.longest: unknown key (known here: fill, letterbox, short_side, size)"),
        ("{crop: [2, 20000]}", "crop[1]: 20000 is out of range (it takes 1 to 16384)"),
        ("{channels: rbg}", "channels: expected rgb, bgr or gray, found 'rbg' (did you mean rgb?)"),
        ("{layout: nchw}", "layout: expected chw or hwc, found 'nchw' (did you mean chw?)"),
        ("{pad: {value: 1}}", "pad.to: is missing (how long the last axis becomes)"),
        ("{pad: {to: 0}}", "pad.to: 0 is out of range (it takes 1 to 2147483647)"),
    ],
)
def test_what_cannot_be_a_step_is_one_mistake(folder: Folder, text: str, expected: str) -> None:
    assert folder.mistake(model(text)) == f"1: models.a.preprocess[0].{expected}"


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("{detect: {boxes: b, scores: s}}", Detect(boxes="b", scores="s")),
        (
            "{detect: {boxes: b, scores: s, format: cxcywh, unit: pixels, background: 0, score: 0.6, iou: 1, max: 9}}",
            Detect("boxes", "b", "s", "cxcywh", "pixels", 0, 0.6, 1.0, 9),
        ),
        ("{detect: {type: yolov8, score: .25, max: 300}}", Detect("yolov8", score=0.25, max=300)),
        ("{error: {to: x}}", Error("x", "mse")),
        ("{error: {to: x, by: mae}}", Error("x", "mae")),
    ],
)
def test_steps_behind_become_values(folder: Folder, text: str, step: object) -> None:
    (found,) = folder.load(model(text, "postprocess")).models
    assert found.postprocess == (step,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("detect", "detect: needs a value (detect: {boxes: NAME, scores: NAME})"),
        ("{detect: {boxes: b}}", "detect: expected the outputs boxes and scores (detect: {boxes: NAME, scores: NAME})"),
        ("{detect: {type: yolov8, boxes: b}}", f"detect: {YOLO}"),
        ("{detect: {type: yolov8, unit: pixels}}", f"detect: {YOLO}"),
        (
            "{detect: {type: yolo8}}",
            "detect.type: expected boxes or yolov8, found 'yolo8' (did you mean yolov8?)",
        ),
        ("{detect: {boxes: b, scores: s, score: 50%}}", "detect.score: expected a number, found '50%'"),
        ("{detect: {boxes: b, scores: s, max: 1001}}", "detect.max: 1001 is out of range (it takes 1 to 1000)"),
        ("{error: x}", "error: expected keys and values, found 'x'"),
        ("{error: {by: mse}}", "error.to: is missing (the model's input that the output should be equal to)"),
    ],
)
def test_what_cannot_be_a_step_behind_is_one_mistake(folder: Folder, text: str, expected: str) -> None:
    assert folder.mistake(model(text, "postprocess")) == f"1: models.a.postprocess[0].{expected}"
