"""How pictures are prepared for a model, by the conventions of those who train them, and which one a model follows.

The numbers are the conventions' own: torchvision's and timm's of ImageNet, Caffe's means as Caffe 2 and Keras kept
them, Keras' -1 to 1, pytorch-ssd's 127 and 128. Pure.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edged.tensors import TensorSpec
from edged.worker.clues import Clues

_NEAR: Final = 0.15  # of a convention's span: what a quantizer saw of some photos does not reach its ends
_SIDE: Final = 16  # pixels: what is smaller than this is a table of numbers to most people
_SQUARE: Final = 4  # times as wide as high at most, where there is one channel: a spectrum is none
FREE: Final = -1
_SCALING: Final = frozenset({"Sub", "Div", "Mul", "Add"})


class Frame(msgspec.Struct, frozen=True):
    """A picture as the model takes it; 0 for a side that it leaves open."""

    width: int
    height: int
    channels: int
    last: bool  # the channels are the last axis


class Convention(msgspec.Struct, frozen=True):
    """`low` and `high`: what pixels of 0 and 255 become, of all channels. `steps`: as they are written."""

    low: float
    high: float
    steps: tuple[str, ...]
    bgr: bool = False
    coloured: bool = False  # only for three channels


class Picked(msgspec.Struct, frozen=True):
    """`known`: it is read from the file, and not guessed."""

    convention: Convention
    why: str
    known: bool = False


AS_THEY_ARE: Final = Convention(0.0, 255.0, ())
UNIT: Final = Convention(0.0, 1.0, ("normalize: {mean: 0, std: 255}",))
SIGNED: Final = Convention(-1.0, 1.0, ("normalize: {mean: 127.5, std: 127.5}",))
SSD: Final = Convention(-127 / 128, 1.0, ("normalize: {mean: 127, std: 128}",))
IMAGENET: Final = Convention(
    -2.118, 2.64, ("normalize: {mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375]}",), coloured=True
)
CAFFE: Final = Convention(-123.68, 151.06, ("normalize: {mean: [103.94, 116.78, 123.68]}",), bgr=True, coloured=True)
CONVENTIONS: Final = (AS_THEY_ARE, UNIT, SIGNED, SSD, IMAGENET, CAFFE)


def pick(spec: TensorSpec, clues: Clues, frame: Frame, *, imagenet: bool, detector: bool) -> Picked:
    """What the file says, else what its kind mostly is.

    `imagenet`: it tells the classes of ImageNet apart; `detector`: it has outputs of boxes and of scores.
    """
    if spec.datatype == "UINT8":
        return Picked(AS_THEY_ARE, "the model takes the pixels' own bytes", known=True)
    if spec.name in clues.spans:
        return _of_span(*clues.spans[spec.name], frame.channels)
    takers = clues.takers.get(spec.name, frozenset())
    if takers and takers <= _SCALING:
        return Picked(AS_THEY_ARE, f"the model begins with {', '.join(sorted(takers))}: it scales pixels itself")
    if ultralytics(clues):
        return Picked(UNIT, "Ultralytics' models take 0 to 1", known=True)
    if frame.channels == 3 and (
        clues.producer.startswith("onnx-caffe2") or spec.name.removeprefix("gpu_0/") == "data_0"
    ):
        return Picked(CAFFE, "models of Caffe take blue, green, red, less the means of ImageNet")
    if clues.producer == "CNTK":
        return Picked(AS_THEY_ARE, "models of CNTK take 0 to 255")
    if detector:
        return Picked(SSD, "most detectors of PyTorch with boxes and scores apart take (pixel - 127) / 128")
    if frame.last:
        return Picked(SIGNED, "most models of Keras and TensorFlow take -1 to 1")
    if frame.channels == 3 and imagenet:
        return Picked(IMAGENET, "most models of ImageNet's 1000 classes take torchvision's means and deviations")
    return Picked(UNIT, "most models take 0 to 1")


def frame_of(spec: TensorSpec) -> Frame | None:
    """The picture that an input is; None for one that is none."""
    if spec.datatype not in ("FP32", "FP16", "FP64", "UINT8"):
        return None
    shape = spec.shape
    if len(shape) == 4 and shape[0] in (1, FREE):
        shape = shape[1:]
    elif not (len(shape) == 3 and spec.datatype == "UINT8"):
        return None
    for channels, (height, width), last in ((shape[0], shape[1:], False), (shape[2], shape[:2], True)):
        open_ = FREE in (height, width)
        if channels not in (1, 3) or any(side != FREE and side < _SIDE for side in (height, width)):
            continue
        if channels == 1 and (open_ or max(height, width) > _SQUARE * min(height, width)):
            continue
        return Frame(max(width, 0), max(height, 0), channels, last)
    return None


def ultralytics(clues: Clues) -> bool:
    """Whether Ultralytics has exported it: YOLOv8 and those after it."""
    return clues.metadata.get("author") == "Ultralytics" or {"task", "names", "stride"} <= clues.metadata.keys()


def _of_span(low: float, high: float, channels: int) -> Picked:
    """What makes this span of pixels; where it is nobody's, what would."""
    why = f"the file is quantized for {low:.4g} to {high:.4g}"
    known = [one for one in CONVENTIONS if channels == 3 or not one.coloured]
    nearest = min(known, key=lambda one: _away(one, low, high))
    if _away(nearest, low, high) <= _NEAR:
        return Picked(nearest, why, known=True)
    scale = 255 / (high - low) if high > low else 1.0
    step = f"normalize: {{mean: {-low * scale:.5g}, std: {scale:.5g}}}"
    return Picked(Convention(low, high, (step,)), f"{why}, which is nobody's habit")


def _away(one: Convention, low: float, high: float) -> float:
    return (abs(one.low - low) + abs(one.high - high)) / (one.high - one.low)
