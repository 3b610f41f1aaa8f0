"""The memory that bodies under way share."""

from __future__ import annotations

import pytest

from edged.errors import EdgedError
from edged.oip.bodies import Room


def test_a_room_takes_what_fits_and_no_more() -> None:
    room = Room(1500)
    room.take(1000)
    with pytest.raises(EdgedError, match="queue_full"):
        room.take(600)
    assert room.used == 1000
    room.take(500)
    room.give(1500)
    assert room.used == 0
