"""What counts as a client that takes its answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.taking import LEAST_RATE, Taking

SWEEPS = 60.0


def waiting(unsent: int) -> Taking:
    """A client for which so much was written, and has waited for a sweep."""
    taking = Taking()
    taking.wrote = unsent
    taking.look(unsent, SWEEPS)
    return taking


@pytest.mark.parametrize(("took", "untaken"), [(0, 6000), (1, 5999), (98, 5902), (99, 0), (6000, 0)])
def test_what_would_not_leave_in_time_at_this_pace_counts_as_untaken(took: int, untaken: int) -> None:
    taking = waiting(6000)
    assert taking.untaken == 0  # it has come this moment
    taking.look(6000 - took, SWEEPS)
    assert (taking.taken, taking.untaken) == (took, untaken)


def test_a_client_whose_buffer_is_never_empty_takes_what_was_written_meanwhile() -> None:
    taking = waiting(1000)
    for _ in range(10):
        taking.wrote += 500
        taking.look(1000, SWEEPS)
        assert taking.untaken == 0


def test_patience_is_for_whoever_takes_all_or_enough() -> None:
    taking = waiting(100_000)
    assert not taking.keeps_up(0, 10)
    taking.look(100_000 - int(10 * LEAST_RATE) + 1, SWEEPS)
    assert not taking.keeps_up(0, 10)
    taking.look(100_000 - int(10 * LEAST_RATE), SWEEPS)
    assert taking.keeps_up(0, 10)
    assert not taking.keeps_up(taking.taken, 10)
    taking.look(0, SWEEPS)
    assert taking.keeps_up(99_999, 10)


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7))))
def test_taken_never_falls_and_nothing_untaken_was_not_written(steps: list[tuple[int, int]]) -> None:
    taking, unsent, before = Taking(), 0, 0
    for wrote, took in steps:
        taking.wrote += wrote
        unsent = max(unsent + wrote - took, 0)
        taking.look(unsent, SWEEPS)
        assert before <= taking.taken <= taking.wrote
        assert taking.untaken in (0, unsent)
        before = taking.taken
