"""Where a connection stands in its request, without a connection."""

from __future__ import annotations

import pytest

from edged.errors import EdgedError
from edged.transports.rest.limits import Intake, Limits, Room

LIMITS = Limits(header=100, header_s=1, body_s=2)


def intake(*, body: int = 1000, room: int = 10_000) -> Intake:
    return Intake(LIMITS, lambda url: body, Room(room))


def test_each_step_has_its_time() -> None:
    one = intake()
    assert (one.between, one.in_body, one.limit_s) == (True, False, 1)
    one.next()
    assert (one.between, one.in_body, one.limit_s) == (False, False, 1)
    assert one.late().message == "the request's header was not complete after 1 s"
    one.next()
    assert (one.between, one.in_body, one.limit_s) == (False, True, 2)
    assert one.late().message == "the request's body was not complete after 2 s"
    one.next()
    assert one.between


def test_only_what_brings_nothing_counts_against_the_header() -> None:
    one = intake()
    one.receiving(60)
    assert one.received() is None
    one.receiving(60)
    problem = one.received()
    assert problem is not None
    assert problem.code == "too_large"
    one.receiving(60)
    one.next()
    assert one.received() is None
    for _ in range(9):
        one.receiving(60)
        one.header(b"/", [(b"content-length", b"600")])
        one.body(60)
        assert one.received() is None


def test_a_complete_header_is_measured_exactly() -> None:
    one = intake()
    one.receiving(5000)  # mostly the body behind it
    one.header(b"/v2", [(b"host", b"x" * 80)])
    with pytest.raises(EdgedError, match="above 100 bytes"):
        one.header(b"/v2", [(b"host", b"x" * 90)])


def test_a_body_is_measured_by_its_word_and_by_its_bytes() -> None:
    one = intake()
    one.header(b"/", [(b"content-length", b"1000")])
    with pytest.raises(EdgedError, match="the body of 1001 bytes is above 1000"):
        one.header(b"/", [(b"content-length", b"1001")])
    one.header(b"/", [(b"transfer-encoding", b"chunked")])
    one.body(1000)
    with pytest.raises(EdgedError, match="too_large"):
        one.body(1)


def test_the_room_is_given_back_whatever_happens() -> None:
    room = Room(1500)
    first, second = (Intake(LIMITS, lambda url: 1000, room) for _ in range(2))
    for one in (first, second):
        one.header(b"/", [(b"content-length", b"1000")])
    first.body(1000)
    with pytest.raises(EdgedError, match="queue_full"):
        second.body(600)
    second.forget()
    assert room.used == 1000
    first.next()
    first.forget()
    assert room.used == 0
