"""Pictures that cannot reach the model's input, told before one comes."""

from __future__ import annotations

import pytest

from edged.config.steps import Cast, Channels, Crop, Form, Layout, Normalize, Pad, Preprocess, Reshape, Resize, Scale
from edged.tensors import Signature, TensorSpec
from edged.worker.steps.check import check
from edged.worker.steps.outline import takes_pictures

MEAN = Normalize((1.0, 2.0, 3.0))
IMAGE = (Form(format="image"),)
SQUARE = Resize(size=(224, 224))


def misfits(steps: tuple[Preprocess, ...], shape: tuple[int, ...], *, forms: tuple[Form, ...] = IMAGE) -> list[str]:
    signature = Signature((TensorSpec("x", "FP32", shape),), (TensorSpec("y", "FP32", (-1, 2)),))
    return list(check(steps, (), signature, forms))


@pytest.mark.parametrize(
    ("steps", "shape"),
    [
        ((SQUARE, Layout("chw"), MEAN), (1, 3, 224, 224)),
        ((SQUARE, MEAN, Layout("chw")), (-1, 3, 224, 224)),
        ((SQUARE,), (-1, 224, 224, 3)),
        ((SQUARE,), (224, 224, 3)),
        ((), (-1, -1, -1, 3)),
        ((Layout("chw"),), (1, 3, -1, -1)),
        ((Layout("chw"),), (1, 3, 224, 224)),  # a camera may send just this size
        ((Layout("hwc"),), (1, -1, -1, 3)),
        ((Resize(short_side=256), Crop((224, 200)), Channels("bgr"), Layout("chw")), (1, 3, 200, 224)),
        ((Resize(letterbox=(640, 480)), Channels("gray"), Layout("chw")), (1, 1, 480, 640)),
        ((SQUARE, Channels("gray"), Reshape((224, 224))), (1, 224, 224)),
        ((SQUARE, Scale(2), Cast("uint8"), Crop((2, 2))), (2, 2, 3)),
        ((Resize(size=(8, 8)), Reshape((3, 64)), Pad(70)), (1, 3, 70)),
    ],
)
def test_pictures_that_fit(steps: tuple[Preprocess, ...], shape: tuple[int, ...]) -> None:
    assert misfits(steps, shape) == []


@pytest.mark.parametrize(
    ("steps", "shape", "words"),
    [
        (
            (SQUARE,),
            (1, 3, 224, 224),
            "becomes [224, 224, 3], input x FP32[1, 3, 224, 224] takes another shape (add la",
        ),
        ((SQUARE, Layout("chw")), (1, 224, 224, 3), "(add layout: hwc)"),
        ((SQUARE, Layout("chw")), (1, 1, 224, 224), "(add channels: gray)"),
        ((SQUARE,), (1, 1, 224, 224), "(add channels: gray)"),
        ((Resize(size=(320, 240)), Layout("chw")), (1, 3, 320, 240), "becomes [3, 240, 320]"),
        ((), (1, 64), "becomes [?, ?, 3]"),
        ((Crop((10, 10)), Layout("chw"), SQUARE), (1, 3, 224, 224), "preprocess resize: works on height, width, chan"),
        ((MEAN, SQUARE, Layout("chw")), (1, 3, 224, 224), "resize: works on 8 bits a channel; put it before scale"),
        ((SQUARE, Crop((300, 2))), (1, 2, 300, 3), "crop: 300 x 2 pixels of a picture of 224 x 224"),
        ((Reshape((64,)), SQUARE), (1, 224, 224, 3), "works on height, width, channels, and has [64] before it"),
        ((Reshape((640, 480)), SQUARE), (1, 224, 224, 3), "becomes [224, 224, 1]"),
        ((SQUARE, Layout("chw"), Pad(200)), (1, 3, 224, 200), "pad: to 200, and there are 224 already"),
    ],
)
def test_pictures_that_cannot_fit(steps: tuple[Preprocess, ...], shape: tuple[int, ...], words: str) -> None:
    (found,) = misfits(steps, shape)
    assert words in found


def test_nothing_is_said_of_what_is_no_picture() -> None:
    assert misfits((Layout("chw"),), (1, 64), forms=()) == []
    assert misfits((Pad(70),), (1, 64), forms=()) == []
    assert misfits((), (1, 64), forms=(*IMAGE, Form(format="values"))) == []


def test_a_picture_of_any_form_is_known_by_its_steps() -> None:
    (found,) = misfits((SQUARE, Channels("rgb")), (1, 3, 224, 224), forms=())
    assert "(add layout: chw)" in found
    assert misfits((SQUARE, Layout("chw")), (1, 1, 224, 224), forms=()) == []  # the pixels may be sent grey, as npy


def test_who_takes_pictures() -> None:
    assert takes_pictures(IMAGE, ())
    assert takes_pictures((), (Scale(1), Crop((1, 1))))
    assert not takes_pictures((Form(),), (Scale(1), Layout("chw")))
