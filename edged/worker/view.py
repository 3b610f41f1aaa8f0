"""Where the picture that a model sees lies in the one that was sent: what resizing and cropping leave behind.

Pure arithmetic. Pixels, x to the right and y down from the upper left corner; coordinates are those of edges, so that
a picture of width W reaches from 0 to W.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np

from edged.worker.formats.decoded import Array

_CHANNELS: Final = (1, 3, 4)


class View(msgspec.Struct, frozen=True):
    """A picture of `width` x `height` pixels, each `scale_x` x `scale_y` pixels of the one that was sent.

    Its upper left corner is at `left`, `top` of the sent picture: negative where something was put around it.
    """

    sent: tuple[int, int]  # width, height
    width: int
    height: int
    scale_x: float = 1.0
    scale_y: float = 1.0
    left: float = 0.0
    top: float = 0.0

    @classmethod
    def whole(cls, width: int, height: int) -> View:
        """The picture as it was sent."""
        return cls((width, height), width, height)

    @classmethod
    def of(cls, tensors: Iterable[Array]) -> View | None:
        """The picture that a model's own tensors show: the first with 1, 3 or 4 channels, in either layout."""
        for tensor in tensors:
            if tensor.ndim >= 3 and tensor.shape[-3] in _CHANNELS:
                return cls.whole(tensor.shape[-1], tensor.shape[-2])
            if tensor.ndim >= 3 and tensor.shape[-1] in _CHANNELS:
                return cls.whole(tensor.shape[-2], tensor.shape[-3])
        return None

    def resized(self, width: int, height: int) -> View:
        return msgspec.structs.replace(
            self,
            width=width,
            height=height,
            scale_x=self.scale_x * self.width / width,
            scale_y=self.scale_y * self.height / height,
        )

    def cropped(self, left: int, top: int, width: int, height: int) -> View:
        """A part of it, or, with corners outside, it and something around it."""
        return msgspec.structs.replace(
            self,
            width=width,
            height=height,
            left=self.left + left * self.scale_x,
            top=self.top + top * self.scale_y,
        )

    def undo(self, boxes: Array) -> Array:
        """Boxes [n, 4] (x1, y1, x2, y2) of this picture in pixels of the sent one, and inside it."""
        scale = np.array([self.scale_x, self.scale_y] * 2)
        corner = np.array([self.left, self.top] * 2)
        return np.asarray(np.clip(boxes * scale + corner, 0, np.array(self.sent * 2)))
