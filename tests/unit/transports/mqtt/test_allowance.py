"""At most so many a second, per name."""

from __future__ import annotations

from edged.transports.mqtt.allowance import Allowance


def test_a_burst_then_the_rate() -> None:
    allowance = Allowance(10)
    assert [allowance.take("m", 5.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert allowance.take("other", 5.0)
    assert not allowance.take("m", 5.05)
    assert allowance.take("m", 5.15)
    assert not allowance.take("m", 5.15)
    assert sum(allowance.take("m", 60.0) for _ in range(30)) == 10
