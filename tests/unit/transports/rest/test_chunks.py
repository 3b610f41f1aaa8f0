"""The chunked coding, against httptools as the second opinion."""

from __future__ import annotations

import tracemalloc

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import EdgedError
from edged.oip.bodies import Room
from edged.transports.rest.chunks import Chunks

HEADER = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
SOUND = b"5\r\nabcde\r\nA;x=1\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n"


def chunks(most: int = 1000, around: int = 100) -> Chunks:
    return Chunks(most, around, Room(10_000))


def taken(data: bytes, cuts: list[int]) -> tuple[bytes | None, bytes]:
    """The body, None while it is not complete, and what was left of data that comes in pieces."""
    one, held = chunks(), b""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        held += data[start:end]
        while used := one.feed(held):
            held = held[used:]
    return (one.body() if one.complete else None), held


def second_opinion(data: bytes) -> bytes | None:
    class Notes:
        body, complete = b"", False

        def on_body(self, piece: bytes) -> None:
            self.body += piece

        def on_message_complete(self) -> None:
            self.complete = True

    notes = Notes()
    httptools.HttpRequestParser(notes).feed_data(HEADER + data)
    return notes.body if notes.complete else None


@given(st.lists(st.integers(0, len(SOUND)), max_size=8).map(sorted))
def test_a_body_in_any_pieces_is_the_same(cuts: list[int]) -> None:
    assert taken(SOUND + b"GET /v2", cuts) == (b"abcde0123456789", b"GET /v2")


@given(
    st.lists(
        st.sampled_from([b"0", b"5", b"a", b";", b" ", b"\r\n", b"\r", b"\n", b"abcde", b"x", b"\0", b"T: t"])
    ).map(b"".join)
)
def test_what_is_taken_for_a_body_is_one(data: bytes) -> None:
    try:
        found, rest = taken(data, [])
    except EdgedError as error:
        assert error.fault.code in ("bad_input", "too_large")
        return
    if found is not None:
        assert second_opinion(data[: len(data) - len(rest)]) == found


@pytest.mark.parametrize(
    "bad",
    [
        b"x\r\n",
        b"-1\r\n",
        b"0x5\r\n",
        b" 5\r\n",
        b"5 5\r\n",
        b"\r\n",
        b"1\n\r\n",
        b"5;\n\r\n",
        b"1\r\nab\r\n",
        b"0\r\nA: b\nc\r\n\r\n",
        b"f" * 16 + b"\r\n",
    ],
)
def test_what_is_no_chunk_is_refused(bad: bytes) -> None:
    with pytest.raises(EdgedError, match="bad_input"):
        chunks().feed(bad)


def test_what_is_no_size_is_shown_as_it_was_sent() -> None:
    with pytest.raises(EdgedError, match="'zz' is no size of a chunk"):
        chunks().feed(b"zz\r\n")


def test_a_body_is_measured_by_its_word() -> None:
    one = chunks(most=10)
    assert one.feed(b"a\r\n0123456789\r\n") == 15
    with pytest.raises(EdgedError, match="above 10 bytes"):
        one.feed(b"1\r\n")


@pytest.mark.parametrize("endless", [b"1;" + b"e" * 100, b"0\r\n" + b"T: t\r\n" * 20, b"1" + b" " * 101])
def test_framing_without_end_is_refused(endless: bytes) -> None:
    with pytest.raises(EdgedError, match="too_large"):
        chunks().feed(endless)


def test_framing_counts_only_between_two_pieces() -> None:
    one = chunks()
    for _ in range(50):
        assert one.feed(b"1;" + b"e" * 80 + b"\r\na\r\n") == 87
    assert one.got == 50


def test_the_room_is_taken_as_the_body_comes_and_given_back() -> None:
    room = Room(8)
    one = Chunks(100, 100, room)
    one.feed(b"10\r\nabcd")
    assert room.used == 4
    with pytest.raises(EdgedError, match="queue_full"):
        one.feed(b"efghi")
    one.close()
    assert room.used == 0


def test_a_body_in_small_chunks_holds_no_more_than_it_counts() -> None:
    room = Room(2**20)
    one = Chunks(2**20, 100, room)
    tracemalloc.start()
    try:
        while one.got < 2**18:
            data = b"2\r\nab\r\n" * 1024
            while used := one.feed(data):
                data = data[used:]
        held = tracemalloc.get_traced_memory()[0]
        body = one.body()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < 1.25 * room.used
    assert peak < 2.5 * room.used
    assert body == b"ab" * 2**17


def test_many_small_chunks_are_taken_some_at_a_time() -> None:
    """A read may bring 11,000 of one byte, which take some hundredths of a second."""
    one, data, feeds = chunks(most=10_000), b"1\r\na\r\n" * 5000 + b"0\r\n\r\n", 0
    while used := one.feed(data):
        assert used < 1000
        data = data[used:]
        feeds += 1
    assert (one.complete, one.body(), data) == (True, b"a" * 5000, b"")
    assert feeds > 40
