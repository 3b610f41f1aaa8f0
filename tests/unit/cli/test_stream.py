"""Standard input as inputs: what it is is told by its first bytes, and nothing waits for what comes behind."""

from __future__ import annotations

import io
import os
from typing import BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.cli.stream import LINE, PICTURE, inputs
from edged.errors import EdgedError
from tests.pictures import file, gradient

JPEG = file(gradient(9, 7), "JPEG")


class Endless(io.RawIOBase):
    """The same chunk again and again."""

    def __init__(self, chunk: bytes) -> None:
        self.chunk = chunk
        self.read_bytes = 0

    def read1(self, size: int = -1) -> bytes:
        self.read_bytes += len(self.chunk)
        return self.chunk


@given(
    st.lists(st.sampled_from([b"[1, 2]", b"1,2", b'{"a": 1}', b"", b"   "]), max_size=6),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_lines(sent: list[bytes], end: bytes) -> None:
    found = list(inputs(io.BytesIO(end.join(sent))))
    assert found == [(line, LINE) for line in sent if line.strip()]


@pytest.mark.parametrize("before", [b"", b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"])
def test_pictures(before: bytes) -> None:
    assert list(inputs(io.BytesIO(before + JPEG + before + JPEG))) == [(JPEG, PICTURE)] * 2


def test_nothing_is_no_input() -> None:
    assert list(inputs(io.BytesIO(b""))) == []
    assert list(inputs(io.BytesIO(b"\n"))) == []
    assert list(inputs(io.BytesIO(b"7"))) == [(b"7", LINE)]


@pytest.mark.parametrize(("sent", "kind"), [(JPEG, PICTURE), (b"[1]\n", LINE)])
def test_an_input_is_handed_on_before_the_next_one_comes(sent: bytes, kind: str) -> None:
    """The writer is this test: were anything more waited for, nobody would write it. It comes a byte at a time."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb", buffering=0) as sink:
        sink.write(sent[:1])
        sink.write(sent[1:])
        assert next(inputs(source)) == (sent.strip(), kind)


def test_a_line_without_an_end_is_refused_and_not_kept_for_ever() -> None:
    source = Endless(b"1" * 2**20)
    with pytest.raises(EdgedError, match="does not end within"):
        next(inputs(cast("BinaryIO", source)))
    assert source.read_bytes <= 66 * 2**20
