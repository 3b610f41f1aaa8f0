"""Waits between attempts: bounded, spread, and short again after a good connection."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edged.transports.mqtt.backoff import Backoff


@given(st.lists(st.floats(0, 1), min_size=10, max_size=20))
def test_waits_stay_within_their_bounds(chances: list[float]) -> None:
    given_chances = iter(chances)
    backoff = Backoff(lambda: next(given_chances))
    waits = [backoff.next_s() for _ in chances]
    assert 0.75 <= waits[0] <= 1.25
    assert all(0.75 <= wait <= 37.5 for wait in waits)
    assert min(waits[6:]) >= 22.5


def test_reset_starts_again() -> None:
    backoff = Backoff(lambda: 0.5)
    assert [backoff.next_s() for _ in range(6)] == [1, 2, 4, 8, 16, 30]
    backoff.reset()
    assert backoff.next_s() == 1
