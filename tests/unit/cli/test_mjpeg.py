"""Motion JPEG: where one picture of a stream ends and the next begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.cli import mjpeg
from edged.errors import EdgedError
from tests.pictures import exif, file, gradient

SMALL = file(gradient(9, 7), "JPEG")
PROGRESSIVE = file(gradient(40, 30), "JPEG", progressive=True, quality=95)
# A thumbnail inside, with an end of its own.
NESTED = file(gradient(16, 16), "JPEG", exif=exif(1) + SMALL)
RESTARTS = file(gradient(64, 64), "JPEG", restart_marker_blocks=1)
ALL = [SMALL, PROGRESSIVE, NESTED, RESTARTS]
PART = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 123\r\n\r\n"


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(st.lists(st.sampled_from(ALL), max_size=5), st.integers(1, 400), st.sampled_from([b"", b"\r\n", PART, b"\xff"]))
def test_pictures_come_out_as_they_went_in(sent: list[bytes], size: int, between: bytes) -> None:
    stream = b"".join(between + one for one in sent) + between
    assert list(mjpeg.pictures(cut(stream, size))) == sent


def test_a_picture_is_handed_on_when_its_end_has_come() -> None:
    def chunks() -> object:
        yield SMALL[:50]
        yield SMALL[50:]
        raise AssertionError("the picture was there already")

    assert next(mjpeg.pictures(chunks())) == SMALL  # type: ignore[arg-type]


def test_damaged_and_unfinished_pictures_are_handed_on_and_the_next_is_found() -> None:
    broken = SMALL[:4] + b"\0\2" + b"no segment"
    found = list(mjpeg.pictures([SMALL[:-2] + PROGRESSIVE + broken + SMALL + NESTED[:-30]]))
    assert found == [SMALL[:-2], PROGRESSIVE, SMALL[:4] + b"\0\2", SMALL, NESTED[:-30]]


@given(st.binary(max_size=300).map(lambda data: SMALL[:20] + data) | st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_taken_apart_alike(data: bytes, size: int) -> None:
    whole = list(mjpeg.pictures([data]))
    assert list(mjpeg.pictures(cut(data, size))) == whole
    assert all(one.startswith(mjpeg.START) for one in whole)


def test_a_stream_that_never_ends_a_picture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mjpeg, "_LARGEST", 1000)
    endless = PROGRESSIVE[:-2]
    with pytest.raises(EdgedError, match="does not end within 1000 bytes"):
        list(mjpeg.pictures(cut(endless + bytes(2000), 100)))
