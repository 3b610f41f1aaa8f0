"""The options of every pre- and post-processing step and of every input form.

Values that the configuration is checked into and that travel to the worker; the functions that use
them live in worker/steps/ and worker/formats/. Shapes are without the batch axis. A step's tag, on its way to the
worker, is `step`: one of them has a `type`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from edged.config import checks
from edged.config.keys import Key

_AXIS: Final = 2**31 - 1
SIDE: Final = 16_384  # pixels of a picture's side; 8K is 7,680


_Size = tuple[int, ...]  # [width, height] of a picture, in this order as in Pillow


class Resize(msgspec.Struct, frozen=True, tag_field="step", tag="resize"):
    """A picture in another size (Pillow, bilinear): exactly [W, H], by its shorter side, or whole inside [W, H]."""

    size: Annotated[
        _Size, Key("[width, height], whatever that does to the proportions", 1, SIDE, check=checks.size)
    ] = ()
    short_side: Annotated[int, Key("the shorter side; the other one follows", 1, SIDE)] = 0
    letterbox: Annotated[
        _Size, Key("[width, height] that the whole picture is fitted into, centred", 1, SIDE, check=checks.size)
    ] = ()
    fill: Annotated[int, Key("letterbox: the value around the picture, in every channel", 0, 255)] = 114


class Crop(msgspec.Struct, frozen=True, tag_field="step", tag="crop"):
    """[W, H] out of a picture's centre; a smaller picture is refused."""

    size: Annotated[_Size, Key("[width, height]", 1, SIDE, check=checks.size)]


class Channels(msgspec.Struct, frozen=True, tag_field="step", tag="channels"):
    """A picture's channels: `rgb` (as a file is read), `bgr`, or one, `gray`."""

    order: Annotated[Literal["rgb", "bgr", "gray"], Key("which channels, in which order")]


class Layout(msgspec.Struct, frozen=True, tag_field="step", tag="layout"):
    """Where the channels are: `chw` [channels, height, width], or `hwc` [height, width, channels] as in a picture."""

    order: Annotated[Literal["chw", "hwc"], Key("the order of the last three axes")]


class Pad(msgspec.Struct, frozen=True, tag_field="step", tag="pad"):
    """The last axis filled up at its end; one that is longer is refused."""

    to: Annotated[int, Key("how long the last axis becomes", 1, _AXIS)]
    value: Annotated[float, Key("what it is filled up with")] = 0.0


class Scale(msgspec.Struct, frozen=True, tag_field="step", tag="scale"):
    """x * k."""

    k: Annotated[float, Key("the factor")]


class Normalize(msgspec.Struct, frozen=True, tag_field="step", tag="normalize"):
    """(x - mean) / std; one number, or one per channel."""

    mean: Annotated[tuple[float, ...], Key("what is taken away", check=checks.numbers, one=True)]
    std: Annotated[tuple[float, ...], Key("what the rest is divided by", check=checks.divisor, one=True)] = (1.0,)


class Reshape(msgspec.Struct, frozen=True, tag_field="step", tag="reshape"):
    """Another shape with as many elements; -1 at most once."""

    shape: Annotated[tuple[int, ...], Key("the sizes, without the batch axis", -1, _AXIS, check=checks.shape)]


class Cast(msgspec.Struct, frozen=True, tag_field="step", tag="cast"):
    """Another dtype, in numpy's words: `float32`."""

    dtype: Annotated[str, Key("the dtype", check=checks.dtype)]


class UseOutput(msgspec.Struct, frozen=True, tag_field="step", tag="output"):
    """Which output the steps after it work on; the first one without this step."""

    name: str


class Softmax(msgspec.Struct, frozen=True, tag_field="step", tag="softmax"):
    """exp(x) / sum(exp(x)) on the last axis."""


class Sigmoid(msgspec.Struct, frozen=True, tag_field="step", tag="sigmoid"):
    """1 / (1 + exp(-x))."""


class Round(msgspec.Struct, frozen=True, tag_field="step", tag="round"):
    """Values and scores rounded to n decimals."""

    n: Annotated[int, Key("decimals", 0, 15)]


class Argmax(msgspec.Struct, frozen=True, tag_field="step", tag="argmax"):
    """The best index on the last axis, as `prediction`."""


class TopK(msgspec.Struct, frozen=True, tag_field="step", tag="top_k"):
    """The n best indices on the last axis, best first, as `prediction`."""

    n: Annotated[int, Key("how many", 1, 100_000)]


class Labels(msgspec.Struct, frozen=True, tag_field="step", tag="labels"):
    """Names for the indices of `prediction` or `detections`."""

    names: tuple[str, ...]


class MinScore(msgspec.Struct, frozen=True, tag_field="step", tag="min_score"):
    """Leaves out of `prediction` or `detections` what scores below x."""

    x: Annotated[float, Key("the lowest score that counts")]


class Detect(msgspec.Struct, frozen=True, tag_field="step", tag="detect"):
    """Objects and where they are, as `detections`: the best box of each, by non-maximum suppression within a class."""

    type: Annotated[
        Literal["boxes", "yolov8"],
        Key("boxes: an output of boxes and one of scores; yolov8: both in one, [rows, 4 + classes, n], in pixels"),
    ] = "boxes"
    boxes: Annotated[str, Key("the output with the boxes, [rows, n, 4]")] = ""
    scores: Annotated[str, Key("the output with the scores, [rows, n, classes] or [rows, n]")] = ""
    format: Annotated[Literal["xyxy", "cxcywh"], Key("a box: two corners, or its centre, width and height")] = "xyxy"
    unit: Annotated[
        Literal["fraction", "pixels"], Key("what boxes are counted in: 0 to 1 across the picture, or its pixels")
    ] = "fraction"
    background: Annotated[int | None, Key("the class that stands for nothing there", 0, 1_000_000, default="none")] = (
        None
    )
    score: Annotated[float, Key("the lowest score that counts", 0, 1)] = 0.5
    iou: Annotated[float, Key("how much of their union two boxes of one object share at least", 0, 1)] = 0.45
    max: Annotated[int, Key("at most so many", 1, 1000)] = 50

    @property
    def fractions(self) -> bool:
        return self.unit == "fraction" and self.type == "boxes"


class Error(msgspec.Struct, frozen=True, tag_field="step", tag="error"):
    """How far the output is from an input, as `prediction`: what an autoencoder does not know. Mean over a row."""

    to: Annotated[str, Key("the model's input that the output should be equal to")]
    by: Annotated[Literal["mse", "mae"], Key("squared or absolute differences")] = "mse"


Preprocess = Resize | Crop | Channels | Layout | Scale | Normalize | Cast | Reshape | Pad
Postprocess = UseOutput | Softmax | Sigmoid | Round | Argmax | TopK | Detect | Error | Labels | MinScore

# What makes a prediction, or detections.
Predicting = Argmax | TopK | Labels | MinScore | Detect | Error

FormatName = Literal["auto", "oip", "values", "raw", "npy", "image"]


ResultFormat = Literal["oip", "prediction", "value", "raw"]


class Form(msgspec.Struct, frozen=True):
    """How one declared input's payload becomes a tensor.

    `auto` decides by content type, then by the first bytes. `tensor` names the model's input that is
    fed, "" = the only one. `values`: `fields` are the JSON members taken in order (none = the bare
    number or list), `missing` what an absent or null member does, `time` the member with the time
    stamp. `raw`: little-endian `dtype` ("" = the tensor's own), `columns` values interleaved per row. `image`:
    a JPEG or PNG file.
    """

    format: Annotated[FormatName, Key("what a payload is; auto: by content type, then by the first bytes")] = "auto"
    tensor: Annotated[str, Key("the model's input that is fed", default="the only one")] = ""
    fields: Annotated[
        tuple[str, ...],
        Key("values: the JSON members taken, in this order", default="the payload is the bare number or list"),
    ] = ()
    missing: Annotated[
        Literal["reject", "nan", "last"],
        Key("values: what an absent or null member does; last: the last value of the same topic stands in"),
    ] = "reject"
    time: Annotated[str, Key("values: the JSON member with the time stamp", default="the arrival counts")] = ""
    dtype: Annotated[
        str, Key("raw: what the bytes are, little-endian", check=checks.dtype, default="the tensor's own")
    ] = ""
    columns: Annotated[
        int, Key("raw: how many values, interleaved, make one row", 0, 65_536, default="one after another")
    ] = 0
