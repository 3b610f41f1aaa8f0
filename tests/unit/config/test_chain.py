"""config.chain: the steps for pictures, as they are written."""

from __future__ import annotations

import pytest

from edged.config.steps import Channels, Crop, Layout, Pad, Resize
from tests.unit.config.folder import Folder

SIZE = "expected [width, height] (such as [224, 224])"
WAYS = "expected one way to resize ([W, H], {short_side: N} or {letterbox: [W, H]})"


def model(steps: str) -> str:
    return f"models: {{a: {{preprocess: [{steps}]}}}}\n"


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
        ("{resize: 224}", "resize: expected keys and values, found '224'"),
        ("{resize: [224]}", f"resize: {SIZE}"),
        ("{resize: [224, 0]}", "resize[1]: 0 is out of range (it takes 1 to 16384)"),
        ("{resize: [1, 2, 3]}", f"resize: {SIZE}"),
        ("{resize: {letterbox: 640}}", "resize.letterbox: expected a list, found '640' (such as [a, b])"),
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
