"""The fast lane's frames: what is written is read again, anything else is Malformed; docs/fast.md byte by byte."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged import frames
from edged.errors import fault
from edged.frames import Head, Malformed, Tensor
from edged.tensors import DATATYPES

PAGE = (Path(__file__).parents[2] / "docs" / "fast.md").read_text(encoding="utf-8")
NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
TENSORS = st.lists(
    st.tuples(
        NAMES,
        st.sampled_from([kind.oip for kind in DATATYPES]),
        st.lists(st.integers(0, 2**32 - 1), max_size=32),
        st.integers(0, 40),
    ),
    max_size=5,
)


def example(kind: str) -> bytes:
    """A block of the page: of each line what stands before three spaces."""
    found = re.search(rf"<!-- {kind} -->\n```hex\n((?s:.*?))```", PAGE)
    assert found is not None
    return bytes.fromhex("".join(line.split("   ")[0] for line in found[1].splitlines()))


def test_the_request_of_the_page() -> None:
    data = example("request")
    assert frames.read_head(data) == Head(46, frames.INFER, 0, 6, 7, 250)
    assert len(data) == frames.HEAD.size + 46
    assert data[24:30] == b"digits"
    body = frames.read_body(frames.described(data[30:]))
    assert body.tensors == (Tensor("x", "FP32", (1, 2), 8, 32),)
    assert (body.asked, body.flags, body.size) == ((), 0, len(data) - 30)
    assert struct.unpack_from("<2f", data, 30 + 32) == (1.5, -2.0)


def test_the_page_is_what_is_written() -> None:
    begin, gaps = frames.describe([("x", "FP32", (1, 2), 8)])
    body = begin + struct.pack("<2f", 1.5, -2)
    head = frames.head(frames.INFER, 6 + len(body), 7, name=6, deadline_ms=250)
    assert (head + b"digits" + body, gaps) == (example("request"), [0])
    begin, _ = frames.describe([("y", "INT64", (1,), 8)])
    body = begin + struct.pack("<q", 4)
    assert frames.head(frames.RESULT, 1 + len(body), 7, name=1) + b"3" + body == example("result")


def test_the_page_numbers_datatypes_kinds_and_flags_as_the_code_does() -> None:
    row = next(line for line in PAGE.splitlines() if "datatype: 1 BOOL" in line)
    numbered = {name: int(number) for number, name in re.findall(r"(\d+) ([A-Z0-9]+)", row)}
    assert numbered == {kind.oip: number for number, kind in enumerate(DATATYPES, 1)}
    kinds = {words.split(" | ")[2]: int(words[2:6], 16) for words in PAGE.splitlines() if words.startswith("| 0x")}
    assert kinds["infer"] == frames.INFER
    assert kinds["result"] == frames.RESULT
    assert kinds["error"] == frames.ERROR
    for flag in (frames.RESENT, frames.NONFINITE, frames.RETRIED):
        assert f"| 0x{flag:02X} |" in PAGE


@given(TENSORS, st.lists(NAMES, max_size=4), st.integers(0, 255))
def test_what_is_described_is_read_again(
    tensors: list[tuple[str, str, list[int], int]], asked: list[str], flags: int
) -> None:
    begin, gaps = frames.describe(tensors, asked, flags=flags)
    body = begin + b"".join(bytes([7]) * size + bytes(gap) for (*_, size), gap in zip(tensors, gaps, strict=True))
    said = frames.read_body(frames.described(body))
    assert [tensor[:4] for tensor in said.tensors] == [(n, d, tuple(shape), size) for n, d, shape, size in tensors]
    assert (said.asked, said.flags, said.size) == (tuple(asked), flags, len(body))
    for tensor in said.tensors:
        assert tensor.start % 8 == 0
        assert body[tensor.start : tensor.start + tensor.size] == bytes([7]) * tensor.size


@given(st.binary(max_size=80))
def test_any_other_bytes_are_malformed_or_a_body(data: bytes) -> None:
    try:
        said = frames.read_body(frames.described(data))
    except Malformed:
        return
    assert said.size >= len(frames.described(data))


@given(TENSORS, st.data())
def test_a_damaged_description_is_malformed_or_another_one(
    tensors: list[tuple[str, str, list[int], int]], data: st.DataObject
) -> None:
    body = bytearray(frames.describe(tensors)[0])
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    try:
        frames.read_body(frames.described(body))
    except Malformed as error:
        assert str(error)


@given(st.binary(min_size=24, max_size=24))
def test_a_head_is_read_or_malformed(data: bytes) -> None:
    try:
        head = frames.read_head(data)
    except Malformed:
        return
    written = frames.head(head.kind, head.size, head.id, flags=head.flags, name=head.name, deadline_ms=head.deadline_ms)
    assert written == data


def test_what_is_no_frame_says_so() -> None:
    with pytest.raises(Malformed, match="0xED"):
        frames.read_head(b"POST /v2/models/digits/infer")
    with pytest.raises(Malformed, match="0 in this version"):
        frames.read_head(frames.head(frames.INFER, 0)[:-1] + b"\1")
    with pytest.raises(Malformed, match="a name of 9 bytes in a frame of 8"):
        frames.read_head(frames.head(frames.INFER, 8, name=9))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "8 at least"),
        (struct.pack("<BBHI", 0, 0, 0, 9), "described in 17"),
        (struct.pack("<BBHI", 0, 0, 1, 0), "tensor 0 is described beyond"),
        (struct.pack("<BBHIBBHI", 0, 0, 1, 8, 0, 0, 0, 0), "datatype 0"),
        (struct.pack("<BBHIBBHI", 0, 0, 1, 8, 14, 0, 0, 0), "datatype 14"),
        (struct.pack("<BBHIBBHI", 0, 0, 1, 8, 1, 33, 0, 0), "33 axes"),
        (struct.pack("<BBHIBBHI", 0, 0, 1, 8, 1, 1, 0, 0), "tensor 0 is described beyond"),
        (struct.pack("<BBHIBBHIB", 0, 0, 1, 9, 1, 0, 1, 0, 0xFF), "UTF-8"),
        (struct.pack("<BBHI", 0, 1, 0, 0), "output 0 is named beyond"),
        (struct.pack("<BBHIH", 0, 1, 0, 2, 1), "output 0 is named beyond"),
        (struct.pack("<BBHIB", 0, 0, 0, 1, 0), "1 bytes are left"),
    ],
)
def test_a_body_that_cannot_be_read_says_why(body: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        frames.read_body(frames.described(body))


def test_an_error_has_code_message_and_hint() -> None:
    frame = frames.error(2**64 - 1, fault("queue_full", "64 inputs are waiting already"))
    head = frames.read_head(frame)
    assert (head.kind, head.id, head.size) == (frames.ERROR, 2**64 - 1, len(frame) - frames.HEAD.size)
    said = msgspec.json.decode(frame[frames.HEAD.size :])
    assert said == {
        "code": "queue_full",
        "message": "64 inputs are waiting already",
        "hint": "Send slower, or raise queue.size.",
    }
