"""Steps that work on a picture as a whole: resize, crop, channels."""

from __future__ import annotations

from edged.config.steps import Channels, Crop, Resize
from edged.worker.formats.decoded import bad_input
from edged.worker.pictures import Picture


def resize(step: Resize, picture: Picture) -> Picture:
    """`size` whatever the proportions; `short_side` and `letterbox` keep them, to the nearest whole pixel.

    A letterboxed picture is as large as fits, in the middle of `fill`; an odd pixel of it is on the right or below.
    """
    width, height = picture.size
    if step.size:
        return picture.resized(*step.size)
    if step.short_side:
        short = min(width, height)
        return picture.resized(*(max(1, round(side * step.short_side / short)) for side in (width, height)))
    wide, high = step.letterbox
    scale = min(wide / width, high / height)
    small = picture.resized(max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (wide - small.size[0]) // 2, (high - small.size[1]) // 2
    return small.cropped(-left, -top, wide, high, step.fill)


def crop(step: Crop, picture: Picture) -> Picture:
    """The middle; an odd pixel is cut off on the right or below. EdgedError bad_input for a smaller picture."""
    width, height = step.size
    left, top = picture.size[0] - width, picture.size[1] - height
    if left < 0 or top < 0:
        raise bad_input(
            f"crop takes {width} x {height} pixels, the picture has {picture.size[0]} x {picture.size[1]} there",
            "Send it larger, or resize it before.",
        )
    return picture.cropped(left // 2, top // 2, width, height)


def channels(step: Channels, picture: Picture) -> Picture:
    return picture.ordered(step.order)
