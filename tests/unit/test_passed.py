"""Descriptors that clients pass: closed by a thread, of which nobody has to wait, and never many of them open."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import pytest

from edged import passed
from tests.unit.worker.direct.test_swift import memory
from tests.waiting import until


@contextlib.contextmanager
def pipe(count: int) -> Iterator[tuple[int, list[int]]]:
    """The reading end, which is at its end when all the writing ones are closed."""
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    copies = [os.dup(writes) for _ in range(count)]
    os.close(writes)
    try:
        yield reads, copies
    finally:
        os.close(reads)


def ended(reads: int) -> bool:
    try:
        return os.read(reads, 1) == b""
    except BlockingIOError:
        return False


def still_open(descriptors: list[int]) -> int:
    found = 0
    for one in descriptors:
        with contextlib.suppress(OSError):
            os.fstat(one)
            found += 1
    return found


def test_a_thread_closes_them() -> None:
    with pipe(30) as (reads, descriptors):
        passed.close(descriptors)
        until(lambda: ended(reads))


def test_no_more_wait_than_the_backlog_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the thread is busy with one that does not come to an end; that it holds its lock is all that shows."""
    monkeypatch.setattr(passed, "_BACKLOG", 8)
    with pipe(20) as (reads, descriptors):
        with passed._closing:
            passed.close(descriptors[:5])
            passed.close(descriptors[5:])
            assert still_open(descriptors) == 8
        with pipe(1) as (_, more):
            passed.close(more)
        until(lambda: ended(reads))


def test_without_memory_for_a_thread_they_are_closed_all_the_same() -> None:
    before = threading.stack_size(256 * 2**20)  # none of those that ended threads have left is so large
    try:
        with pipe(5) as (reads, descriptors):
            with memory(32 * 2**20):
                passed.close(descriptors)
            assert ended(reads)
    finally:
        threading.stack_size(before)
    with pipe(5) as (reads, descriptors):
        passed.close(descriptors)
        until(lambda: ended(reads))
