"""A box under mixed load: every request answered, nothing lost at QoS 1, no memory, descriptor or thread more.

`scripts/test --soak 30m tests/soak` is the real one. The short form says that load, measuring and verdict work, and
would notice a coarse leak of memory and any of descriptors; what a leak is, trend.py says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.brokers import Mosquitto
from tests.soak.scenario import Plan, judge, soak, soaking, told

SHORT = Plan(seconds=15, room=8 << 20, pause_s=0.05)
LEAKING = str(Path(__file__).with_name("leaking.py"))
ROOM = 1 << 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_half_a_minute_of_mixed_load(broker: Mosquitto) -> None:
    with soaking(broker) as (one, port):
        found = soak(one, broker, port, SHORT)
    assert judge(found, SHORT) == []
    assert all(counts.get("sent", 1) > 0 for counts in found.counts.values()), found.counts
    assert found.counts["keeper"]["swaps"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_leak_that_was_planted_is_noticed(broker: Mosquitto) -> None:
    """Of memory, and of descriptors."""
    plan = Plan(seconds=10, room=8 << 20, pause_s=0.1)
    with soaking(broker, [sys.executable, LEAKING, str(64 << 10), "20"]) as (one, port):
        found = soak(one, broker, port, plan)
    said = judge(found, plan)
    assert any(line.startswith("daemon's RSS grows") for line in said), said
    assert any(line.startswith("daemon has") and "descriptors at rest" in line for line in said), said
    assert all(line.startswith("daemon") for line in said), said


@pytest.mark.soak
def test_mixed_load(broker: Mosquitto, soak_s: float, tell: Callable[[str], None]) -> None:
    plan = Plan(seconds=soak_s, room=ROOM, keeper_s=5.0, prelude_s=20.0)
    with soaking(broker) as (one, port):
        found = soak(one, broker, port, plan)
    tell(told(found, plan))
    assert judge(found, plan) == []
