"""A call's headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.transports.rpc.frames import Broken
from edged.transports.rpc.heads import Head, Heads, read
from edged.transports.rpc.hpack import encode

CALL = [(b":method", b"POST"), (b":path", b"/a/B"), (b"content-type", b"application/grpc+proto")]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"2H", 7200),
        (b"3M", 180),
        (b"4S", 4),
        (b"500m", 0.5),
        (b"99999999u", 99.999999),
        (b"1n", 1e-9),
    ],
)
def test_a_deadline_in_every_unit(text: bytes, seconds: float) -> None:
    assert read([*CALL, (b"grpc-timeout", text)]).timeout_s == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"5", b"S", b"123456789S", b"-1S", b"1.5S", b"1 S"])
def test_a_deadline_that_is_none_is_told(text: bytes) -> None:
    problem = read([*CALL, (b"grpc-timeout", text)]).problem
    assert problem is not None
    assert problem.code == "bad_input"


def test_what_a_call_says_of_itself() -> None:
    assert read(CALL) == Head(b"/a/B")
    assert read([*CALL, (b"authorization", b"bearer  abc")]).token == b"abc"
    assert read([*CALL, (b"authorization", b"Basic abc")]).token == b""
    assert not read([(b":method", b"GET"), *CALL[1:]]).grpc
    assert not read(CALL[:2]).grpc
    assert [read([*CALL, (b"grpc-encoding", one)]).coding for one in (b"gzip", b"deflate", b"identity")] == [
        "gzip",
        "deflate",
        "",
    ]
    problem = read([*CALL, (b"grpc-encoding", b"snappy")]).problem
    assert problem is not None
    assert problem.code == "unsupported"


@pytest.mark.parametrize("headers", [CALL[1:], [CALL[0]], [*CALL, CALL[1]], [*CALL, (b":status", b"200")]])
def test_what_is_no_request_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ValueError, match=r"path|header"):
        read(headers)


def test_a_block_is_remembered_until_the_table_changes() -> None:
    heads = Heads(16384)
    heads.decode(b"\x40\x05:path\x02/a")
    block = encode([CALL[0], CALL[2]]) + b"\xbe"
    first = heads.read(block)
    assert first is not None
    assert first.path == b"/a"
    assert heads.read(block) is first
    heads.decode(b"\x40\x05:path\x02/b")  # the newest entry is another one now
    second = heads.read(block)
    assert second is not None
    assert second.path == b"/b"


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_garbage_is_a_head_or_none_or_broken(blocks: list[bytes]) -> None:
    heads = Heads(4096)
    for block in blocks:
        try:
            heads.read(block)
        except Broken:
            return
