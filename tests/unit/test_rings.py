"""RULES 12: what one side writes into a slot the other reads, and neither can hurt the other by it."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.rings import LARGEST_SLOT, SLOTS, Ring, Slots, slot_size
from tests.rings import both_sides

SIZE = 2 * mmap.PAGESIZE


@pytest.fixture(params=[True, False], ids=["inputs", "results"])
def ring(request: pytest.FixtureRequest) -> Iterator[tuple[int, bool]]:
    """(the descriptor that a worker gets, whether the daemon is the one who writes)."""
    _ours, descriptor = Ring.create(SIZE, writer=request.param)
    yield descriptor, request.param
    os.close(descriptor)


@given(st.sampled_from([True, False]), st.integers(0, SLOTS - 1), st.lists(st.binary(max_size=SIZE // 4), max_size=4))
def test_what_one_side_writes_the_other_reads(daemon_writes: bool, slot: int, payloads: list[bytes]) -> None:
    ours, theirs = both_sides(SIZE, daemon_writes=daemon_writes)
    writer, reader = (ours, theirs) if daemon_writes else (theirs, ours)
    whole = b"".join(payloads)
    writer.write(slot, payloads)
    assert bytes(reader.view(slot, len(whole))) == whole
    assert reader.view(slot, len(whole)).readonly


def test_a_slot_ends_where_the_next_begins() -> None:
    writer, reader = both_sides(SIZE, daemon_writes=True)
    for slot in range(SLOTS):
        writer.write(slot, [bytes([slot]) * SIZE])
    assert [bytes(reader.view(slot, SIZE)) for slot in range(SLOTS)] == [bytes([slot]) * SIZE for slot in range(SLOTS)]


@pytest.mark.parametrize(("slot", "size"), [(-1, 1), (SLOTS, 1), (0, SIZE + 1), (0, -1)])
def test_no_view_outside_a_slot(slot: int, size: int) -> None:
    _, reader = both_sides(SIZE, daemon_writes=True)
    with pytest.raises(ValueError, match="slot"):
        reader.view(slot, size)


@pytest.mark.parametrize("size", [0, SIZE, 2 * SLOTS * SIZE])
def test_a_worker_cannot_cut_or_stretch_its_ring(ring: tuple[int, bool], size: int) -> None:
    """An unsealed one would end the daemon by SIGBUS."""
    with pytest.raises(PermissionError):
        os.ftruncate(ring[0], size)


def test_a_worker_cannot_write_what_the_daemon_writes() -> None:
    ours, descriptor = Ring.create(SIZE, writer=True)
    ours.write(0, [b"the daemon's"])
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"a worker's", 0)
    with pytest.raises(PermissionError):
        Ring.attach(descriptor, writer=True)
    os.close(descriptor)


def test_the_daemon_needs_no_descriptor_once_it_has_mapped_a_ring() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    ours, theirs = both_sides(SIZE, daemon_writes=True)
    ours.write(0, [b"x"])
    assert bytes(theirs.view(0, 1)) == b"x"
    del ours, theirs
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_memory_is_taken_by_what_is_written(ring: tuple[int, bool]) -> None:
    assert os.fstat(ring[0]).st_blocks == 0


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1, mmap.PAGESIZE), (2**20, 2**20), (2**20 + 1, 2**20 + mmap.PAGESIZE), (2**30, LARGEST_SLOT)],
)
def test_a_slot_holds_the_largest_message_up_to_a_bound(limit: int, expected: int) -> None:
    assert slot_size(limit) == expected


def test_no_room_on_the_box_is_an_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _size: int) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(os, "ftruncate", full)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="no memory"):
        Ring.create(SIZE, writer=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@given(st.lists(st.booleans(), max_size=40))
def test_slots_are_given_once_and_the_lowest_first(steps: list[bool]) -> None:
    slots, taken = Slots(), set[int]()
    for take in steps:
        if take:
            free = set(range(SLOTS)) - taken
            slot = slots.take()
            assert slot == min(free, default=None)
            taken |= set() if slot is None else {slot}
        elif taken:
            slots.give_back(taken.pop())
