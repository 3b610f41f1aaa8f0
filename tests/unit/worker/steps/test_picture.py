"""resize, crop, channels, layout and pad: pixels, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edged.config.steps import Cast, Channels, Crop, Form, Layout, Normalize, Pad, Preprocess, Reshape, Resize, Scale
from edged.errors import EdgedError
from edged.tensors import Signature, TensorSpec
from edged.worker.pictures import Picture
from edged.worker.steps.prepare import prepare
from edged.worker.steps.table import preprocess
from edged.worker.view import View
from tests.pictures import Array, file, gradient, oriented
from tests.unit.worker.formats.samples import ask, request
from tests.unit.worker.formats.test_npy import saved

PIXELS = gradient(40, 20)
WIDE = Picture.of(PIXELS)
Sides = tuple[int, int]


def after(*steps: Preprocess, pixels: Array = PIXELS) -> Array:
    return preprocess(steps, Picture.of(pixels))[0]


def view(*steps: Preprocess, size: Sides = (40, 20)) -> View:
    found = preprocess(steps, Picture.of(gradient(*size)))[1]
    assert found is not None
    return found


def refused(*steps: Preprocess, pixels: Array = PIXELS) -> str:
    with pytest.raises(EdgedError) as caught:
        preprocess(steps, pixels)
    assert caught.value.fault.code == "bad_input"
    return caught.value.fault.message


def test_resize_is_pillows_bilinear() -> None:
    expected = Image.fromarray(PIXELS).resize((7, 9), Image.Resampling.BILINEAR)
    assert np.array_equal(after(Resize(size=(7, 9))), np.asarray(expected))
    assert np.array_equal(after(Resize(size=(40, 20))), PIXELS)


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [((40, 20), 10, (20, 10)), ((20, 40), 10, (10, 20)), ((376, 263), 256, (366, 256)), ((3, 1000), 2, (2, 667))],
)
def test_the_short_side_leads_and_the_other_follows(size: Sides, short: int, expected: Sides) -> None:
    found = view(Resize(short_side=short), size=size)
    assert (found.width, found.height) == expected


def test_letterbox_fits_all_of_it_in_the_middle() -> None:
    found = after(Resize(letterbox=(24, 25), fill=7))
    assert found.shape == (25, 24, 3)
    assert np.array_equal(found[6:18], np.asarray(Image.fromarray(PIXELS).resize((24, 12), Image.Resampling.BILINEAR)))
    assert set(found[:6].ravel()) == set(found[18:].ravel()) == {7}
    tall = after(Resize(letterbox=(8, 4)), pixels=gradient(2, 8, 1))
    assert (tall.shape, tall[0, 0, 0], tall[3, 7, 0]) == ((4, 8, 1), 114, 114)


def test_crop_takes_the_middle() -> None:
    assert np.array_equal(after(Crop((10, 4))), PIXELS[8:12, 15:25])
    assert np.array_equal(after(Crop((39, 19))), PIXELS[:19, :39])
    assert "the picture has 40 x 20" in refused(Crop((41, 4)))


def test_channels() -> None:
    assert np.array_equal(after(Channels("bgr")), PIXELS[..., ::-1])
    assert np.array_equal(after(Channels("bgr"), Channels("rgb")), PIXELS)
    grey = np.asarray(Image.fromarray(PIXELS).convert("L"))[..., np.newaxis]
    assert np.array_equal(after(Channels("gray")), grey)
    assert np.array_equal(after(Channels("bgr"), Resize(size=(40, 20)), Channels("gray")), grey)
    assert np.array_equal(after(Channels("bgr"), pixels=grey), np.repeat(grey, 3, axis=2))


def test_layout_moves_the_channels_once() -> None:
    chw = PIXELS.transpose(2, 0, 1)
    assert np.array_equal(after(Layout("chw")), chw)
    assert np.array_equal(after(Layout("hwc")), PIXELS)  # as it is
    assert np.array_equal(after(Layout("chw"), Layout("hwc")), PIXELS)
    assert np.array_equal(after(Layout("chw"), Layout("chw")), chw)
    assert np.array_equal(preprocess([Layout("hwc")], chw)[0], PIXELS)
    batch = np.stack([PIXELS, PIXELS[::-1]])
    assert np.array_equal(preprocess([Layout("chw")], batch)[0], batch.transpose(0, 3, 1, 2))
    assert "no height, width and channels" in refused(Layout("chw"), pixels=PIXELS[0])


@pytest.mark.parametrize("width", [3, 5])
def test_normalize_goes_by_channel_where_these_are(width: int) -> None:
    """Also where the picture is as high as it has channels."""
    pixels = np.arange(width * 9, dtype=np.uint8).reshape(3, width, 3)
    expected = (pixels - np.array([1.0, 2.0, 4.0])) / 2
    steps = Normalize((1.0, 2.0, 4.0), (2.0,))
    assert np.allclose(after(Layout("hwc"), steps, pixels=pixels), expected)
    assert np.allclose(after(Layout("chw"), steps, pixels=pixels), expected.transpose(2, 0, 1))
    assert np.allclose(after(steps, Layout("chw"), pixels=pixels), expected.transpose(2, 0, 1))


def test_pad_fills_the_last_axis_and_cuts_nothing() -> None:
    assert preprocess([Pad(4, 9)], np.array([1, 2]))[0].tolist() == [1, 2, 9, 9]
    assert preprocess([Pad(3)], np.array([[1.5, 2], [3, 4]]))[0].tolist() == [[1.5, 2, 0], [3, 4, 0]]
    assert preprocess([Pad(2)], np.array([1, 2]))[0].tolist() == [1, 2]
    assert preprocess([Pad(2, 0.5)], np.array([1.0], np.float16))[0].dtype == np.float16
    assert "3 along its last axis" in refused(Pad(2), pixels=np.zeros(3))
    assert "int64 cannot hold 0.5" in refused(Pad(2, 0.5), pixels=np.array([1]))
    assert "uint8 cannot hold 256" in refused(Pad(2, 256), pixels=np.array([1], np.uint8))
    assert "bool cannot hold 1" in refused(Pad(2, 1), pixels=np.array([True]))
    assert "pad to 2" in refused(Pad(2), pixels=np.array(1.0))


BOX = np.array([[2.0, 1.0, 6.0, 3.0]])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], [2, 1, 6, 3]),
        ([Resize(size=(20, 40))], [4, 0.5, 12, 1.5]),
        ([Resize(short_side=10)], [4, 2, 12, 6]),
        ([Crop((10, 4))], [17, 9, 21, 11]),
        ([Resize(letterbox=(20, 20))], [4, 0, 12, 0]),  # above the picture
        ([Resize(letterbox=(20, 12))], [4, 0, 12, 4]),
        ([Resize(short_side=10), Crop((10, 4)), Channels("bgr"), Layout("chw"), Scale(2)], [14, 8, 22, 12]),
        ([Crop((20, 20)), Resize(size=(10, 10))], [14, 2, 22, 6]),
    ],
)
def test_boxes_come_back_in_pixels_of_what_was_sent(steps: Sequence[Any], expected: list[float]) -> None:
    assert view(*steps or [Channels("rgb")]).undo(BOX).tolist() == [expected]


SIDE = st.integers(1, 60)
STEP = st.one_of(
    st.builds(Resize, size=st.tuples(SIDE, SIDE)),
    st.builds(Resize, short_side=SIDE),
    st.builds(Resize, letterbox=st.tuples(SIDE, SIDE)),
)


@given(st.tuples(SIDE, SIDE), st.lists(STEP, min_size=1, max_size=3), st.data())
def test_any_chain_has_its_size_and_a_way_back(size: Sides, steps: list[Any], data: st.DataObject) -> None:
    """The sent picture's frame, followed through the steps, comes back where it was."""
    array, found = preprocess(steps, Picture.of(gradient(*size)))
    assert found is not None
    assert array.shape == (found.height, found.width, 3)
    if steps[-1].size or steps[-1].letterbox:
        assert (found.width, found.height) == (steps[-1].size or steps[-1].letterbox)
    left, top = -found.left / found.scale_x, -found.top / found.scale_y
    frame = np.array([[left, top, left + size[0] / found.scale_x, top + size[1] / found.scale_y]])
    np.testing.assert_allclose(found.undo(frame)[0], [0, 0, *size], atol=1e-6)


# --- from a payload to the model ----------------------------------------------------------------------

PHOTO = Signature((TensorSpec("photo", "FP32", (1, 3, 8, 10)),), (TensorSpec("y", "FP32", (1, 5)),))
STEPS = (Resize(size=(10, 8)), Layout("chw"), Scale(1 / 255))
EXPECTED = np.asarray(Image.fromarray(PIXELS).resize((10, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1)[np.newaxis]


@pytest.mark.parametrize(
    "payload",
    [
        file(PIXELS),
        saved(PIXELS),
        saved(PIXELS[np.newaxis]),
        oriented(np.rot90(PIXELS), 6),
        request(
            [{"name": "photo", "shape": [1, 20, 40, 3], "datatype": "UINT8", "data": PIXELS.ravel().tolist()}],
            parameters={"steps": True},
        ),
    ],
)
def test_one_picture_is_one_tensor_whatever_carries_it(payload: bytes | tuple[bytes, int]) -> None:
    found = prepare(ask(payload, PHOTO), STEPS, PHOTO)
    assert (found.rows, found.tensors["photo"].dtype) == (1, np.float32)
    np.testing.assert_allclose(found.tensors["photo"], EXPECTED / 255, rtol=1e-6)
    assert found.view == View((40, 20), 10, 8, 4.0, 2.5)


def test_raw_pixels_are_a_picture_behind_a_reshape() -> None:
    form = Form(format="raw", dtype="uint8")
    found = prepare(ask(PIXELS.tobytes(), PHOTO, form), (Reshape((20, 40, 3)), *STEPS), PHOTO)
    np.testing.assert_allclose(found.tensors["photo"], EXPECTED / 255, rtol=1e-6)
    with pytest.raises(EdgedError, match=r"a step for pictures has uint8\[2400\]"):
        prepare(ask(PIXELS.tobytes(), PHOTO, form), STEPS, PHOTO)


def test_a_model_that_takes_pictures_as_they_are() -> None:
    """Pixels are whole numbers: they become what the model takes."""
    for datatype in ("UINT8", "FP32", "FP16", "INT64"):
        signature = Signature((TensorSpec("photo", datatype, (-1, -1, -1, 3)),), ())
        found = prepare(ask(file(PIXELS), signature), (), signature)
        assert found.tensors["photo"].tolist() == [PIXELS.tolist()]
        assert found.tensors["photo"].dtype == signature.inputs[0].datatype.lower().replace("fp", "float")


def test_a_picture_of_another_shape_is_told_what_to_do() -> None:
    for steps in ((), (Layout("chw"),), (Resize(size=(8, 10)), Layout("chw")), (Resize(size=(10, 8)),)):
        with pytest.raises(EdgedError, match=r"input photo has shape \[1, 3, 8, 10\]") as caught:
            prepare(ask(file(PIXELS), PHOTO), steps, PHOTO)
        assert "`resize`" in caught.value.fault.hint


def test_whole_numbers_are_a_picture_once_they_are_cast() -> None:
    payload = str(PIXELS.tolist()).encode()
    found = prepare(ask(payload, PHOTO), (Cast("uint8"), *STEPS), PHOTO)
    np.testing.assert_allclose(found.tensors["photo"], EXPECTED / 255, rtol=1e-6)
