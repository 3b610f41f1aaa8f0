"""Deadlines by what a connection does, with a clock of the test's own."""

from __future__ import annotations

import pytest

from edged.taking import Taking
from edged.transports.rest.limits import Limits
from edged.transports.rest.patience import Doing, Patience


def late(
    patience: Patience, now_s: float, step: int, doing: Doing, *, got: int = 0, taking: Taking | None = None
) -> str | None:
    """What is said, "" when nothing is, None when it is not late."""
    found = patience.look(now_s, step, doing, got=got, taking=taking or Taking())
    if found is None:
        return None
    return found.problem.message if found.problem is not None else ""


@pytest.mark.parametrize(
    ("doing", "seconds", "said"),
    [
        (Doing.HEADER, 10, "the request's header was not complete after 10 s"),
        (Doing.REST, 75, ""),
        (Doing.END, 2, ""),
    ],
)
def test_each_has_its_time(doing: Doing, seconds: float, said: str) -> None:
    one = Patience(Limits())
    assert late(one, 100, 0, doing) is None
    assert late(one, 100 + seconds - 0.1, 0, doing) is None
    assert late(one, 100 + seconds, 0, doing) == said


def test_the_time_in_which_we_work_is_nobodys() -> None:
    one = Patience(Limits())
    for now_s in (0, 1e3, 1e6):
        assert late(one, now_s, 0, Doing.WORK) is None


def test_a_body_must_move_and_must_end() -> None:
    one = Patience(Limits())
    for second in range(0, 30, 4):
        assert late(one, second, 0, Doing.BODY, got=second) is None
    assert late(one, 30, 0, Doing.BODY, got=30) == "the request's body was not complete after 30 s"
    one = Patience(Limits())
    assert late(one, 0, 0, Doing.BODY, got=7) is None
    assert late(one, 5, 0, Doing.BODY, got=7) == "the request's body stood still for 5 s"


def test_a_new_step_has_new_time_and_more_bytes_of_a_header_do_not() -> None:
    one = Patience(Limits())
    assert late(one, 0, 0, Doing.HEADER) is None
    assert late(one, 9, 1, Doing.HEADER) is None
    assert late(one, 18, 1, Doing.HEADER) is None
    assert late(one, 19, 1, Doing.HEADER) is not None


def test_a_client_that_takes_its_answer_slowly_is_let_and_one_that_drips_is_not() -> None:
    one, taking = Patience(Limits()), Taking()
    taking.wrote = 10**6
    for minute in range(45):
        taking.look(10**6 - minute * 20_000, 60)  # 333 bytes a second
        assert late(one, minute * 60, 0, Doing.REST, taking=taking) is None
    ends_s = 44 * 60 + 75
    for second in range(44 * 60, ends_s):
        taking.look(taking.unsent - 1, 60)
        assert late(one, second, 0, Doing.REST, taking=taking) is None
    assert late(one, ends_s, 0, Doing.REST, taking=taking) == ""
