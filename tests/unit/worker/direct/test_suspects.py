"""What tells inputs apart, and what becomes of those that were under way at a death."""

from __future__ import annotations

from edged.worker.direct.suspects import Suspects, digest, mark

ONE = memoryview(bytes(5000))
OTHER = memoryview(bytes(4999) + b"\1")


def test_no_input_is_taken_for_the_poison_that_it_begins_like() -> None:
    """A mark is of the beginning alone, which makes a suspect; the verdict is on all of it."""
    assert mark(ONE) == mark(OTHER)
    suspects = Suspects((), [(mark(ONE), digest(ONE))])
    assert suspects.suspect(mark(OTHER))
    assert suspects.verdict(mark(OTHER), digest(OTHER)) is None
    assert suspects.verdict(mark(ONE), digest(ONE)) is not None


def test_what_has_run_is_suspect_no_more() -> None:
    suspects = Suspects([mark(ONE)], ())
    suspects.clear(mark(ONE))
    assert not suspects
