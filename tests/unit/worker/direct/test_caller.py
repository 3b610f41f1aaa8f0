"""One client's bytes as requests: whatever it sends, and however it comes in pieces."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged import frames
from edged.lent import Rings
from edged.worker.direct.caller import Caller, Request, Terms
from edged.worker.direct.limits import Limits, Room
from tests.callers import request, row
from tests.lending import hand_over, lingering

MESSAGE = 4096
LIMITS = Limits(buffer=512, frames=16 * 1024)


class End:
    """A caller and the client's end of its connection."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX)
        ours.setblocking(False)
        self.theirs.setblocking(False)
        self.failed: list[str] = []
        room, rings = Room(limits.frames), Rings(limits.ring, limits.rings)
        self.caller = Caller(ours, Terms(b"m", MESSAGE, limits, room, rings, self.failed.append), 0.0)

    def sent(self, *pieces: bytes) -> list[Request | bytes]:
        """What becomes of these bytes, taken as a worker does: nothing is read before all that was is answered."""
        found: list[Request | bytes] = []
        for piece in pieces:
            left = memoryview(piece)
            while left and not (self.caller.gone or self.caller.closing):
                left = left[self.theirs.send(left[:1024]) :]
                while not self.caller.closing and select.select([self.caller.sock], [], [], 0)[0]:
                    self.caller.read(0.0)
                    found += self.taken()
        return found

    def taken(self) -> list[Request | bytes]:
        taken = [
            one if isinstance(one, bytes) else one._replace(body=memoryview(bytes(one.body)))
            for one in self.caller.requests
        ]
        self.caller.requests.clear()
        return taken

    def close(self) -> None:
        self.caller.close()
        self.theirs.close()


@pytest.fixture
def end() -> Iterator[End]:
    one = End()
    yield one
    one.close()


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[begin:stop] for begin, stop in pairwise(at)]


@given(st.lists(st.integers(0, 800), min_size=1, max_size=8), st.lists(st.integers(0, 10**6), max_size=12))
@settings(max_examples=60)
def test_requests_are_what_was_sent_however_it_was_cut(sizes: list[int], cuts: list[int]) -> None:
    bodies = [bytes([number]) * size for number, size in enumerate(sizes)]
    data = b"".join(frames.head(frames.INFER, len(body), number) + body for number, body in enumerate(bodies))
    one = End()
    try:
        found = one.sent(*pieces(data, cuts))
        assert [(entry.id, bytes(entry.body)) for entry in found if isinstance(entry, Request)] == list(
            enumerate(bodies)
        )
        assert not one.caller.waits_for_bytes
    finally:
        one.close()


@given(st.lists(st.binary(max_size=300), max_size=8))
@settings(max_examples=100)
def test_any_bytes_are_requests_or_an_error_and_never_more_memory_than_a_frame_may_take(chunks: list[bytes]) -> None:
    good = request(1, row(1, 2))
    one = End()
    try:
        for chunk in chunks:
            one.sent(good, chunk)
        assert len(one.caller._buffer) <= MESSAGE + frames.HEAD.size + 255
    finally:
        one.close()


def test_a_frame_that_is_too_large_is_answered_and_passed_over(end: End) -> None:
    large = frames.head(frames.INFER, MESSAGE + 1, 1) + bytes(MESSAGE + 1)
    found = end.sent(large, frames.head(frames.INFER, 3, 2) + b"abc")
    assert isinstance(found[0], bytes)
    assert b"too_large" in found[0]
    assert isinstance(found[1], Request)
    assert (found[1].id, bytes(found[1].body)) == (2, b"abc")
    assert end.failed == ["too_large"]


def test_a_large_frame_gets_its_memory_and_gives_it_back(end: End) -> None:
    found = end.sent(frames.head(frames.INFER, MESSAGE, 1) + b"x" * MESSAGE)
    assert [bytes(one.body) for one in found if isinstance(one, Request)] == [b"x" * MESSAGE]
    assert end.caller._terms.room._left < LIMITS.frames
    end.caller.shrink()
    assert end.caller._terms.room._left == LIMITS.frames


def test_without_room_a_large_frame_is_refused_and_the_next_is_read(end: End) -> None:
    assert end.caller._terms.room.take(LIMITS.frames)
    found = end.sent(frames.head(frames.INFER, 2000, 1) + bytes(2000), frames.head(frames.INFER, 0, 2))
    assert isinstance(found[0], bytes)
    assert b"queue_full" in found[0]
    assert isinstance(found[1], Request)


def test_what_is_not_taken_is_sent_later_and_in_order(end: End) -> None:
    parts = [bytes([number]) * 100_000 for number in range(8)]
    for part in parts:
        end.caller.say(part)
    assert not end.caller.flush(1.0)
    read = bytearray()
    while len(read) < 800_000:
        try:
            read += end.theirs.recv(65536)
        except BlockingIOError:
            end.caller.flush(1.0)
    assert bytes(read) == b"".join(parts)
    assert end.caller.untaken == 0


@pytest.mark.parametrize("read", [False, True])
def test_the_end_is_held_up_by_nothing_that_nobody_has_read(end: End, *, read: bool) -> None:
    """A socket that is closed with descriptors in it closes them: here each would take a minute."""
    with lingering() as passed:
        hand_over(end.theirs, [passed, passed], b"some bytes")
        os.close(passed)
        if read:
            end.caller.read(0.0)
        thread = threading.Thread(target=end.caller.close, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()


def test_memory_is_given_back_once_however_often_it_ends(end: End) -> None:
    end.sent(frames.head(frames.INFER, MESSAGE, 1) + bytes(MESSAGE))
    end.caller.close()
    end.caller.close()
    assert end.caller._terms.room._left == LIMITS.frames


def test_a_frame_that_comes_byte_by_byte_has_its_time(end: End) -> None:
    """Nobody is to keep a large buffer, of which there are few, by a byte now and then."""
    frame, caller = request(1, row(*range(50))), end.caller

    def comes(data: bytes, now_s: float) -> str:
        end.theirs.send(data)
        caller.read(now_s)
        return caller.late(now_s)

    assert [comes(frame[at : at + 1], at) for at in range(30)] == [""] * 30
    assert "not complete after 30 s" in comes(frame[30:31], 30)
    comes(frame[31:], 31)
    assert len(end.taken()) == 1
    assert comes(frame[:1], 40) == ""
    assert comes(frame[1:] + frame[:1], 69) == ""  # with the end of one the next begins
    assert len(end.taken()) == 1
    assert comes(frame[1:2], 98) == ""
    assert "not complete" in comes(frame[2:3], 99)
    assert "nothing more for 5 s" in caller.late(105)


def test_answers_are_taken_at_a_pace_or_not_at_all() -> None:
    end = End(Limits(stall_s=1000.0, frame_s=1000.0))
    caller, left = end.caller, 0

    def take(size: int, now_s: float) -> str:
        while size > 0:
            with contextlib.suppress(BlockingIOError):
                size -= len(end.theirs.recv(min(size, 4096)))
            caller.flush(now_s)
        return caller.late(now_s)

    try:
        caller.say(bytes(3_000_000))
        assert not caller.flush(0.0)
        assert caller.late(0.0) == ""
        assert take(300_000, 900.0) == ""
        assert take(100_000, 1500.0) == ""  # more than 240 bytes a second were taken by then
        assert take(0, 1899.0) == ""
        assert "not taken" in take(0, 1900.0)
        left = caller.taking.untaken
    finally:
        end.close()
    assert left > 2_000_000
