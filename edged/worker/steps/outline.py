"""What preprocess makes of a picture, as far as that is known before one comes: shapes, step by step.

A size of -1 is not known: it comes with the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from edged.config.steps import (
    Cast,
    Channels,
    Crop,
    Form,
    Layout,
    Normalize,
    Pad,
    Preprocess,
    Reshape,
    Resize,
    Scale,
)
from edged.tensors import TensorSpec
from edged.worker.steps.misfit import Misfit

PICTURE_STEPS: Final = (Resize, Crop, Channels)
# Behind one of these an array has the shape that the configuration says, which has to be the model's.
SHAPING: Final = (*PICTURE_STEPS, Layout, Reshape, Pad)
Shape = tuple[int, ...]


def takes_pictures(forms: Sequence[Form], steps: Sequence[Preprocess]) -> bool:
    """Whether the configuration speaks of pictures: then Pillow has to be there from the start."""
    return any(form.format == "image" for form in forms) or any(isinstance(step, PICTURE_STEPS) for step in steps)


def misfits(steps: Sequence[Preprocess], forms: Sequence[Form], spec: TensorSpec) -> Iterator[Misfit]:
    """Why no picture can reach the model's input `spec`, in words; nothing for steps that are not for pictures."""
    picture = _Outline(forms)
    for index, step in enumerate(steps):
        problem = picture.follow(step)
        if problem:
            yield Misfit(f"preprocess[{index}]", f"preprocess {step.__struct_config__.tag}: {problem}")
            return
    if picture.is_one and picture.shape is not None and not _reaches(picture.shape, spec):
        made = _shown(picture.shape)
        words = f"preprocess: a picture becomes {made}, input {spec} takes another shape{picture.hint(spec)}"
        yield Misfit("preprocess", words)


class _Outline:
    """A picture's shape behind the steps so far: None where nothing is known of it, not even its axes."""

    def __init__(self, forms: Sequence[Form]) -> None:
        self.is_one = bool(forms) and all(form.format == "image" for form in forms)
        self.shape: Shape | None = (-1, -1, 3) if self.is_one else None
        self._order = "hwc" if self.is_one else ""
        self._eight_bits = True

    def follow(self, step: Preprocess) -> str:
        """Takes one step; why it cannot be taken."""
        if isinstance(step, PICTURE_STEPS):
            return self._as_picture(step)
        if isinstance(step, Layout):
            self._turn(step.order)
        elif isinstance(step, Reshape):
            self.shape, self._order = step.shape, ""
        elif isinstance(step, Pad):
            return self._pad(step)
        elif isinstance(step, Scale | Normalize):
            self._eight_bits = False
        elif isinstance(step, Cast):
            self._eight_bits = step.dtype == "uint8"
        return ""

    def hint(self, spec: TensorSpec) -> str:
        """The step that is missing, where one would do."""
        if self.shape is None or len(self.shape) != 3:
            return ""
        turned = (*self.shape[1:], self.shape[0]) if self._order == "chw" else (self.shape[2], *self.shape[:2])
        other = "hwc" if self._order == "chw" else "chw"
        if _reaches(turned, spec):
            return f" (add layout: {other})"
        grey = (1, *turned[1:])
        if _reaches(grey, spec) or (self._order == "chw" and _reaches((1, *self.shape[1:]), spec)):
            return " (add channels: gray)"
        return ""

    def _as_picture(self, step: Resize | Crop | Channels) -> str:
        if self._order == "chw":
            return "works on height, width, channels; put it before layout: chw"
        if not self._eight_bits:
            return "works on 8 bits a channel; put it before scale, normalize and cast"
        if self.shape is not None and len(self.shape) == 2:
            self.shape = (*self.shape, 1)
        if self.shape is not None and len(self.shape) != 3:
            return f"works on height, width, channels, and has {_shown(self.shape)} before it"
        self.is_one, self._order = True, "hwc"
        height, width, count = self.shape or (-1, -1, -1)
        if isinstance(step, Channels):
            self.shape = height, width, 1 if step.order == "gray" else 3
        elif isinstance(step, Crop):
            wide, high = step.size
            if -1 < width < wide or -1 < height < high:
                return f"{wide} x {high} pixels of a picture of {width} x {height}"
            self.shape = high, wide, count
        else:
            wide, high = step.size or step.letterbox or (-1, -1)
            self.shape = high, wide, count
        return ""

    def _turn(self, order: str) -> None:
        if self.shape is not None and len(self.shape) == 3 and order != self._order:
            first, second, third = self.shape
            self.shape = (third, first, second) if order == "chw" else (second, third, first)
        self._order = order

    def _pad(self, step: Pad) -> str:
        if self.shape:
            if self.shape[-1] > step.to:
                return f"to {step.to}, and there are {self.shape[-1]} already"
            self.shape = (*self.shape[:-1], step.to)
        return ""


def _reaches(shape: Shape, spec: TensorSpec) -> bool:
    """Whether an array of this shape can be a row of the input, or all of it."""
    rows: list[Any] = [spec.shape]
    if spec.shape[:1] in ((-1,), (1,)):
        rows.append(spec.shape[1:])
    return any(
        len(row) == len(shape) and all(-1 in pair or pair[0] == pair[1] for pair in zip(row, shape, strict=True))
        for row in rows
    )


def _shown(shape: Shape) -> str:
    return f"[{', '.join('?' if size == -1 else str(size) for size in shape)}]"
