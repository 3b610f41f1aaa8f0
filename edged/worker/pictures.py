"""Pictures: JPEG and PNG files to pixels, other sizes, crops, channels. The only user of Pillow.

Pillow is loaded with the first picture, or at start by a model that says it takes some: no other worker pays for it.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from edged.errors import EdgedError
from edged.worker.formats.decoded import Array, bad_input
from edged.worker.view import View

if TYPE_CHECKING:
    from PIL import Image

JPEG: Final = b"\xff\xd8\xff"
PNG: Final = b"\x89PNG\r\n\x1a\n"
PIXELS: Final = 2**25  # 33.5 million, 100 MB as they are decoded: 8K has 33.2
# A progressive JPEG repeats the whole picture in every scan, which an attacker may write in a few bytes each. Encoders
# use 10 or so.
_SCANS: Final = 16
_SCANS_AT_ALL: Final = 1000
_START_OF_SCAN: Final = b"\xff\xda"
# Pillow reads a file's segments and chunks in Python, some 2 us each: 16 MiB of empty ones would take 10 s. Real files
# have a few dozen segments before their pixels, and a chunk for every 8 KiB or more.
_SEGMENTS: Final = 1000
_CHUNKS: Final = 2**16
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xDA)})  # markers without a segment behind them (ITU-T T.81, table B.1)
_HINT: Final = "Send the whole file of a JPEG or PNG picture."
# EXIF 2.32, tag 0x0112: what turns a picture upright, by Pillow's name of it.
_UPRIGHT: Final = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
Order = Literal["rgb", "bgr", "gray"]


def load() -> None:
    """Loads Pillow; EdgedError unsupported where it is not installed."""
    try:
        import PIL.Image
        import PIL.JpegImagePlugin
        import PIL.PngImagePlugin
    except ImportError as error:
        raise EdgedError(
            "unsupported",
            f"pictures are read with Pillow, which is not installed: {error}",
            "pip install 'edged[image]', or apt install python3-pil where edged uses the system's Python.",
        ) from error
    PIL.Image.MAX_IMAGE_PIXELS = None  # PIXELS is lower, and told in our words


class Picture:
    """One picture on its way through the steps, 8 bits a channel; every change makes another one.

    `view` is where it lies in the picture that was sent.
    """

    def __init__(self, image: Image.Image, view: View, order: Order) -> None:
        self._image = image
        self.view: Final = view
        self.order: Final = order

    @classmethod
    def read(cls, data: bytes) -> Picture:
        """A JPEG or PNG file, upright by its EXIF orientation, as 8-bit RGB; EdgedError bad_input for any other bytes.

        Grey, palettes and CMYK become RGB, 16 bits lose the lower 8, transparency is left out (the colours under it
        stay). Of an animation it is the first picture. Colour profiles are not applied.
        """
        load()
        image = _decoded(data)
        return cls(image, View.whole(*image.size), "rgb")

    @classmethod
    def of(cls, array: Array) -> Picture:
        """Pixels that were sent as an array: uint8 [height, width, 1 or 3], or [height, width]."""
        pixels = array[0] if array.ndim == 4 and array.shape[0] == 1 else array
        if pixels.ndim == 2:
            pixels = pixels[..., np.newaxis]
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
            raise bad_input(
                f"a step for pictures has {array.dtype}{list(array.shape)} before it",
                "A picture is uint8, shape [height, width, channels] with 1 or 3 of them.",
            )
        load()
        from PIL import Image

        height, width, channels = pixels.shape
        image = Image.fromarray(np.ascontiguousarray(pixels if channels == 3 else pixels[..., 0]))
        return cls(image, View.whole(width, height), "rgb" if channels == 3 else "gray")

    @property
    def size(self) -> tuple[int, int]:
        """Width, height."""
        return self._image.size

    def array(self) -> Array:
        """uint8 [height, width, channels]."""
        pixels = np.asarray(self._image)
        if self.order == "gray":
            return pixels[..., np.newaxis]
        return np.ascontiguousarray(pixels[..., ::-1]) if self.order == "bgr" else pixels

    def resized(self, width: int, height: int) -> Picture:
        """Another size, bilinear; a smaller one takes every pixel into account (Pillow's resize)."""
        if (width, height) == self.size:
            return self
        from PIL import Image

        image = self._image.resize((width, height), Image.Resampling.BILINEAR)
        return Picture(image, self.view.resized(width, height), self.order)

    def cropped(self, left: int, top: int, width: int, height: int, fill: int = 0) -> Picture:
        """The part that begins at `left`, `top`; what is outside the picture has the value `fill`."""
        from PIL import Image

        view = self.view.cropped(left, top, width, height)
        if left >= 0 and top >= 0 and left + width <= self.size[0] and top + height <= self.size[1]:
            return Picture(self._image.crop((left, top, left + width, top + height)), view, self.order)
        image = Image.new(self._image.mode, (width, height), fill if self.order == "gray" else (fill,) * 3)
        image.paste(self._image, (-left, -top))
        return Picture(image, view, self.order)

    def ordered(self, order: Order) -> Picture:
        """Other channels: grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), and becomes three equal ones."""
        image = self._image
        if (order == "gray") != (self.order == "gray"):
            image = image.convert("L" if order == "gray" else "RGB")
        return Picture(image, self.view, order)


def _decoded(data: bytes) -> Image.Image:
    """The pixels of a file, upright and RGB."""
    from PIL import Image

    kind = "JPEG" if data.startswith(JPEG) else "PNG" if data.startswith(PNG) else ""
    if not kind:
        raise bad_input(f"no JPEG or PNG picture begins with the bytes {data[:8].hex(' ')}", _HINT)
    scans = data.count(_START_OF_SCAN) if kind == "JPEG" else 1
    if scans > _SCANS_AT_ALL or not (_few_segments(data) if kind == "JPEG" else _few_chunks(data)):
        raise bad_input(f"the {kind} picture is in too many parts", "Save it anew.")
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            _check_size(*image.size, scans)
            image.load()
            turn = _UPRIGHT.get(orientation(image.info.get("exif", b"")))
            found = _rgb(image)
    except (EdgedError, MemoryError):
        raise
    except Exception as error:  # Pillow raises a dozen types for a damaged file
        raise bad_input(f"the {kind} picture cannot be read: {_told(error)}", _HINT) from error
    return found if turn is None else found.transpose(Image.Transpose[turn])


def _check_size(width: int, height: int, scans: int) -> None:
    """Before anything is decoded: a few kilobytes may claim, and fill, gigabytes."""
    if width * height > PIXELS:
        raise bad_input(f"the picture has {width} x {height} pixels, {PIXELS} are read", "Send it smaller.")
    if width * height * scans > PIXELS * _SCANS:
        raise bad_input(f"the JPEG picture of {width} x {height} pixels comes in {scans} scans", "Save it anew.")


def _few_segments(data: bytes) -> bool:
    """Whether a JPEG comes to its first scan, or its end, in a few steps."""
    at = 2
    for _ in range(_SEGMENTS):
        if at + 1 >= len(data):
            return True
        mark = data[at + 1]
        if data[at] != 0xFF or mark in (0x00, 0xFF):  # rubbish and filling, which are skipped
            at += 1
        elif data[at : at + 2] == _START_OF_SCAN:
            return True
        else:
            at += 2 if mark in _ALONE else 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return False


def _few_chunks(data: bytes) -> bool:
    at = len(PNG)
    for _ in range(_CHUNKS):
        if at >= len(data):
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey; Pillow's own way to 8 cuts off what is above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image.info.pop("transparency", None)  # or Pillow warns that it leaves it out
    return image if image.mode == "RGB" else image.convert("RGB")


def _told(error: Exception) -> str:
    """Pillow's words, but where they hold nothing but an address in memory."""
    text = str(error) or type(error).__name__
    return "its header is damaged" if " object at 0x" in text else text[:200]


def orientation(exif: bytes) -> int:
    """The orientation 1 to 8 that an EXIF block tells, 1 where it tells none or is damaged (EXIF 2.32, 4.6.2)."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == 0x0112:
                return value if kind == 3 and count == 1 and value in _UPRIGHT else 1
    except struct.error:
        return 1
    return 1
