"""Bodies of announced size."""

from __future__ import annotations

import pytest

from edged.errors import EdgedError
from edged.oip.bodies import Room, Sized


def test_pieces_end_up_in_their_place_however_they_come() -> None:
    room = Room(100)
    one = Sized(10, room)
    one.add(memoryview(b"0123"))
    one.rest()[:3] = b"456"
    one.got += 3
    assert not one.complete
    assert len(one.rest()) == 3
    one.add(memoryview(b"789"))
    assert one.complete
    assert one.body() == b"0123456789"
    one.close()
    assert room.used == 0


def test_the_body_is_handed_on_without_a_copy() -> None:
    one = Sized(100_000, Room(100_000))
    one.add(memoryview(bytes(100_000)))
    assert one.body() is one.body()


def test_there_is_no_place_without_room_and_it_is_given_back() -> None:
    room = Room(100)
    one = Sized(60, room)
    with pytest.raises(EdgedError, match="queue_full"):
        Sized(60, room)
    one.close()
    Sized(60, room).close()
    assert room.used == 0
