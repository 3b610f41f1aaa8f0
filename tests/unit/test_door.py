"""RULES 8, 13: what a worker notes of what it runs is what the daemon reads, after its end too."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.door import MOST, Underway

MARKS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=MOST)


def both() -> tuple[Underway, Underway]:
    """(the daemon's side, the worker's)."""
    ours, descriptor = Underway.create()
    try:
        return ours, Underway.attach(descriptor)
    finally:
        os.close(descriptor)


@given(MARKS, st.integers(1, 2**62), st.integers(0, 2**64 - 1))
def test_what_a_worker_runs_is_read(marks: list[int], began_ns: int, digest: int) -> None:
    ours, theirs = both()
    theirs.begin(began_ns, marks, digest=digest)
    assert ours.marks == tuple(marks)
    assert ours.started_s == began_ns / 1e9
    assert ours.digest == digest
    theirs.end(began_ns + 7)
    assert (ours.marks, ours.started_s) == ((), 0)
    assert ours.ended_s == (began_ns + 7) / 1e9


def test_a_count_that_a_worker_made_up_reads_no_further_than_the_memory() -> None:
    ours, theirs = both()
    theirs._words[2] = 2**63
    assert len(ours.marks) == MOST


def test_the_daemon_s_side_cannot_be_written_nor_cut() -> None:
    ours, descriptor = Underway.create()
    with pytest.raises(TypeError):
        ours.end(1)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)
    os.close(descriptor)
