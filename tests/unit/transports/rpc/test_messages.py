"""A call's bytes are the same messages however they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import EdgedError
from edged.oip.bodies import Room
from edged.transports.rpc.messages import Messages, prefixed


@given(st.lists(st.binary(max_size=50), max_size=5), st.lists(st.integers(1, 60), max_size=20), st.booleans())
def test_messages_come_out_as_they_went_in(sent: list[bytes], cuts: list[int], in_place: bool) -> None:
    room = Room(10_000)
    messages = Messages(100, room)
    data = memoryview(b"".join(prefixed(one) + one for one in sent))
    found: list[bytes] = []
    at = 0
    for cut in [*cuts, len(data)]:
        piece = data[at : at + cut]
        rest = messages.rest()
        if in_place and rest is not None and len(rest):
            piece = piece[: len(rest)]
            rest[: len(piece)] = piece
            rest.release()
            messages.put(len(piece))
            whole = messages.taken()
            found += [] if whole is None else [whole]
        else:
            found += messages.feed(piece)
        at += len(piece)
    found += messages.feed(data[at:])
    assert found == sent
    assert not messages.partial
    assert messages.began == len(sent)
    assert room.used == 0


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(1, 60), max_size=20))
def test_what_waits_comes_one_by_one(sent: list[bytes], cuts: list[int]) -> None:
    room = Room(10_000)
    messages = Messages(100, room)
    data = memoryview(b"".join(prefixed(one) + one for one in sent))
    at = 0
    for cut in [*cuts, len(data)]:
        messages.wait(data[at : at + cut])
        at += len(data[at : at + cut])
    assert room.used == len(data)
    found = []
    while messages.waits:
        message = messages.take_up()
        assert message is not None
        found.append(message)
    assert found == sent
    assert room.used == 0


def test_a_message_above_the_limit_is_refused_at_its_prefix() -> None:
    messages = Messages(100, Room(1000))
    with pytest.raises(EdgedError, match="too_large"):
        list(messages.feed(memoryview(b"\0\0\0\0\x65")))


def test_each_message_says_whether_it_is_compressed() -> None:
    messages = Messages(100, Room(1000), "gzip")
    found = [(one, messages.coding) for one in messages.feed(memoryview(b"\1\0\0\0\1a\0\0\0\0\1b\1\0\0\0\1c"))]
    assert found == [(b"a", "gzip"), (b"b", ""), (b"c", "gzip")]


@pytest.mark.parametrize(("coding", "flag"), [("", 1), ("gzip", 2), ("", 0xFF)])
def test_a_message_that_is_marked_as_nobody_said_is_refused(coding: str, flag: int) -> None:
    with pytest.raises(EdgedError, match="marked as compressed"):
        list(Messages(100, Room(1000), coding).feed(memoryview(bytes((flag,)) + b"\0\0\0\1a")))


def test_what_is_under_way_takes_room_and_gives_it_back() -> None:
    room = Room(100)
    first, second = Messages(100, room), Messages(100, room)
    assert list(first.feed(memoryview(b"\0\0\0\0\x50a"))) == []
    assert room.used == 80
    with pytest.raises(EdgedError, match="queue_full"):
        list(second.feed(memoryview(b"\0\0\0\0\x50a")))
    with pytest.raises(EdgedError, match="queue_full"):
        second.wait(memoryview(bytes(30)))
    second.wait(memoryview(b"\0\0\0"))
    assert second.waits
    assert first.rest() is not None
    first.wait(memoryview(b"x"))
    assert first.rest() is None  # what waits comes before what is read next
    first.close()
    assert second.take_up() is None
    assert second.partial
    assert room.used == 0
