"""No packet identifier is in use twice, paho's included."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from edged.transports.mqtt.identifiers import Identifiers


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 64)), max_size=30))
def test_ours_and_pahos_never_meet(turns: list[tuple[int, int]]) -> None:
    """Between two looks paho takes some, and some messages leave, of which 64 at most are not confirmed."""
    ours, pahos, under_way = Identifiers(), 0, deque[int]()
    for subscribes, messages in turns:
        for _ in range(messages):
            if len(under_way) == 64:
                ours.back(under_way.popleft())
            identifier = ours.next()
            assert 1 <= identifier <= 65_535
            assert identifier != pahos
            assert identifier not in under_way
            under_way.append(identifier)
        for _ in range(subscribes):
            pahos = pahos % 65_535 + 1
            if under_way and subscribes > 10_000:  # meanwhile the broker confirms
                ours.back(under_way.popleft())
            assert pahos not in under_way
            assert ours.paho(pahos) == pahos


def test_paho_without_a_connection_has_none() -> None:
    assert Identifiers().paho(None) == 0
