"""The memory of bodies: used again, and bounded."""

from __future__ import annotations

import pytest

from edged.errors import EdgedError
from edged.oip.bodies import Room
from edged.transports.fast.limits import Pool


def test_a_buffer_is_used_again_for_a_body_of_about_its_size() -> None:
    room = Room(10**7)
    pool = Pool(room)
    first = pool.take(600_000)
    assert len(first) >= 600_000
    second = pool.take(600_000)
    assert second is not first
    pool.give(first)
    assert pool.take(500_000) is first
    pool.give(first)
    assert pool.take(10_000) is not first  # it would keep sixty times as much
    assert pool.take(700_000) is not first


def test_all_bodies_together_have_a_limit() -> None:
    room = Room(100_000)
    pool = Pool(room)
    one = pool.take(60_000)
    with pytest.raises(EdgedError, match="queue_full"):
        pool.take(60_000)
    pool.give(one)
    assert room.used == 0
    assert pool.take(60_000) is one
    with pytest.raises(EdgedError, match="queue_full"):
        pool.take(60_000)


def test_what_is_kept_for_later_is_bounded() -> None:
    pool = Pool(Room(10**9))
    taken = [pool.take(3 * 2**20) for _ in range(5)]
    for buffer in taken:
        pool.give(buffer)
    assert sum(map(len, pool._spare)) <= 8 * 2**20
    pool.give(pool.take(9 * 2**20))
    assert pool._spare == []


def test_a_body_that_there_is_no_memory_for_takes_no_room() -> None:
    room = Room(2**63)
    with pytest.raises(EdgedError, match="over_memory"):
        Pool(room).take(2**62)
    assert room.used == 0
