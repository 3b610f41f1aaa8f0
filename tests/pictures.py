"""Pictures made for a test: files of every kind that a camera or a person may send, from pixels that are known."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]


def gradient(width: int, height: int, channels: int = 3) -> Array:
    """uint8 [height, width, channels]: every channel of every pixel tells where it is."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [(x * 255 // max(1, width - 1)), (y * 255 // max(1, height - 1)), (x + 2 * y) % 256]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def file(pixels: Array, kind: str = "PNG", mode: str = "", **options: Any) -> bytes:
    """The pixels as a file; `mode` is Pillow's, such as P or CMYK."""
    image = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    content = io.BytesIO()
    (image.convert(mode) if mode else image).save(content, kind, **options)
    return content.getvalue()


def oriented(pixels: Array, orientation: int, *, order: str = "<", kind: str = "PNG") -> bytes:
    """A file whose EXIF block says how it is to be turned."""
    return file(pixels, kind, exif=exif(orientation, order=order))


def exif(orientation: int, *, order: str = "<", entries: int = 1) -> bytes:
    """An EXIF block with the orientation alone; `order` is struct's word for the byte order."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(f"{order}IH", 8, entries) + entry + bytes(4)
