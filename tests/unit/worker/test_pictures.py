"""Files to pixels: what cameras and people send, and what they send by mistake or to do harm."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from edged.errors import EdgedError
from edged.worker import pictures
from edged.worker.pictures import Picture, orientation
from tests.pictures import Array, exif, file, gradient, oriented

PIXELS = gradient(31, 17)
PNG = file(PIXELS)
JPEG = file(PIXELS, "JPEG", quality=90)


def read(data: bytes) -> Array:
    return Picture.read(data).array()


def refused(data: bytes) -> str:
    with pytest.raises(EdgedError) as caught:
        Picture.read(data)
    assert caught.value.fault.code == "bad_input"
    assert caught.value.fault.hint
    return caught.value.fault.message


def test_a_png_is_its_pixels_and_a_jpeg_nearly() -> None:
    assert np.array_equal(read(PNG), PIXELS)
    found = read(JPEG)
    assert (found.shape, found.dtype) == ((17, 31, 3), np.uint8)
    assert np.abs(found.astype(int) - PIXELS).mean() < 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_kind_of_png_becomes_rgb(mode: str) -> None:
    found = read(file(PIXELS, mode=mode))
    assert found.shape == PIXELS.shape
    expected = np.asarray(Image.fromarray(PIXELS).convert(mode).convert("RGB"))
    assert np.array_equal(found, expected)


def test_sixteen_bits_lose_the_lower_eight() -> None:
    grey = np.arange(0, 65_536, 257, dtype=np.uint16).reshape(16, 16) + 1
    grey[-1, -1] = 65_535
    found = read(file(grey))
    assert np.array_equal(found[..., 0], grey >> 8)
    assert np.array_equal(found[..., 0], found[..., 2])
    assert read(colour_16()).tolist() == [[[0x12, 0xFF, 0]]]


def colour_16() -> bytes:
    """A PNG of one pixel, 16 bits in each of three channels."""

    head = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    line = b"\0" + struct.pack(">HHH", 0x1234, 0xFFFF, 0x00FF)
    return pictures.PNG + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(line)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_kind_of_jpeg_becomes_rgb(mode: str, *, progressive: bool) -> None:
    data = file(PIXELS, "JPEG", mode=mode, quality=95, progressive=progressive)
    expected = np.asarray(Image.fromarray(PIXELS).convert(mode).convert("RGB")).astype(int)
    assert np.abs(read(data).astype(int) - expected).mean() < 8


def test_transparency_is_left_out_and_nobody_is_warned() -> None:
    clear = np.dstack([PIXELS, np.zeros(PIXELS.shape[:2], np.uint8)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read(file(clear)), PIXELS)
        palette = Image.fromarray(PIXELS).convert("P")
        content = io.BytesIO()
        palette.save(content, "PNG", transparency=bytes(range(256)))
        assert np.array_equal(read(content.getvalue()), np.asarray(palette.convert("RGB")))


def test_of_several_pictures_the_first_is_read() -> None:
    for kind in ("PNG", "MPO"):
        content = io.BytesIO()
        other = Image.fromarray(255 - PIXELS)
        Image.fromarray(PIXELS).save(content, kind, save_all=True, append_images=[other])
        assert np.abs(read(content.getvalue()).astype(int) - PIXELS).mean() < 8


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_pictures_are_turned_upright(turn: int, order: str) -> None:
    data = oriented(PIXELS, turn, order=order)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    picture = Picture.read(data)
    assert np.array_equal(picture.array(), expected)
    assert picture.view.sent == (expected.shape[1], expected.shape[0])


def test_a_jpeg_is_turned_too() -> None:
    assert read(oriented(PIXELS, 6, kind="JPEG")).shape == (31, 17, 3)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif\0\0",
        exif(0),
        exif(9),
        exif(6)[:20],
        exif(6, entries=60_000).replace(b"\x12\x01", b"\x0f\x01"),
        b"XX",
    ],
)
def test_an_orientation_that_cannot_be_read_is_none(block: bytes) -> None:
    assert orientation(block) == 1


@given(st.binary(max_size=60).map(lambda data: exif(6)[:10] + data) | st.binary(max_size=60))
@example(exif(6)[:10] + b"\xff\xff\xff\xff")
def test_any_exif_block_has_an_orientation(block: bytes) -> None:
    assert orientation(block) in range(1, 9)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "begins with the bytes"),
        (b"GIF89a, and more", "no JPEG or PNG picture begins with the bytes 47 49 46 38"),
        (b"RIFF....WEBP", "no JPEG or PNG"),
        (JPEG[:-2], "truncated"),
        (JPEG[:200], "the JPEG picture cannot be read"),
        (JPEG[:4], "the JPEG picture cannot be read"),
        (PNG[:-40], "the PNG picture cannot be read"),
        (PNG[:20], "the PNG picture cannot be read"),
        (pictures.PNG, "the PNG picture cannot be read"),
    ],
)
def test_what_is_no_whole_picture_is_refused(data: bytes, words: str) -> None:
    message = refused(data)
    assert words in message
    assert " object at " not in message


def claims(width: int, height: int) -> bytes:
    """A PNG that says it has this many pixels."""
    head = b"IHDR" + struct.pack(">II", width, height) + PNG[24:29]
    return PNG[:12] + head + struct.pack(">I", zlib.crc32(head)) + PNG[33:]


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    assert "20000 x 20000 pixels, 33554432 are read" in refused(claims(20_000, 20_000))
    assert "pixels" in refused(claims(2**31 - 1, 2**31 - 1))
    assert "cannot be read" in refused(claims(8192, 4096))  # as many as are read, and not there
    assert len(flat := file(np.zeros((8192, 8192), np.uint8))) < 100_000
    assert "8192 x 8192 pixels" in refused(flat)


def test_a_picture_of_thousands_of_scans_is_refused() -> None:
    """Each takes a few bytes of a progressive JPEG, and goes over all of its pixels."""
    data = file(np.zeros((1024, 1024, 3), np.uint8), "JPEG", progressive=True)
    assert read(data).shape == (1024, 1024, 3)
    at = data.rindex(b"\xff\xda")
    assert "scans" in refused(data[:at] + data[at:-2] * 600 + data[-2:])


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize(
    ("part", "into"),
    [
        (b"\xff\xfe\0\2", JPEG),  # an empty comment
        (b"\xff\xe1\0\2", JPEG),
        (b"\xff", JPEG),
        (chunk(b"abCd"), PNG),
        (chunk(b"tEXt", b"a\0b"), PNG),
        (chunk(b"IDAT"), PNG),
    ],
)
def test_a_picture_in_a_million_parts_is_refused_at_once(part: bytes, into: bytes) -> None:
    """Pillow would take each for itself, for seconds."""
    at = 2 if into is JPEG else into.index(b"IDAT") - 4
    assert read(into[:at] + part * 500 + into[at:]).shape == PIXELS.shape
    assert "too many parts" in refused(into[:at] + part * 100_000 + into[at:])


def test_chunks_behind_the_pixels_count_as_well() -> None:
    at = PNG.index(b"IEND") - 4
    assert "too many parts" in refused(PNG[:at] + chunk(b"abCd") * 100_000 + PNG[at:])


def test_scans_are_counted_in_a_small_picture_too() -> None:
    data = file(PIXELS, "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    assert "too many parts" in refused(data[:at] + data[at:-2] * 2000 + data[-2:])


@given(st.data())
@settings(max_examples=200)
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    changed = bytearray(
        data.draw(st.sampled_from([PNG, JPEG, file(PIXELS, mode="P"), oriented(PIXELS, 6, kind="JPEG")]))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        if data.draw(st.booleans()):
            changed[at] = data.draw(st.integers(0, 255))
        else:
            del changed[at : at + data.draw(st.integers(1, 40))]
    try:
        found = Picture.read(bytes(changed))
    except EdgedError as error:
        assert error.fault.code == "bad_input"
        return
    assert found.array().dtype == np.uint8


def test_pillow_is_loaded_by_pictures_alone() -> None:
    code = "import edged.worker.main, sys; print('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_without_pillow_an_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(EdgedError) as caught:
        Picture.read(PNG)
    assert caught.value.fault.code == "unsupported"
    assert "Pillow, which is not installed" in caught.value.fault.message
    assert "pip install 'edged[image]'" in caught.value.fault.hint
