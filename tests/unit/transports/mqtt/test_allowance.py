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


def test_less_than_one_a_second() -> None:
    allowance = Allowance(0.1)
    assert [allowance.take("m", now_s) for now_s in (0.0, 9.0, 10.5, 12.0, 20.5)] == [True, False, True, False, True]


def test_names_are_forgotten_when_there_are_too_many() -> None:
    allowance = Allowance(1)
    for number in range(5000):
        assert allowance.take(str(number), 0.0)
    assert not allowance.take("4999", 0.0)
    assert len(allowance._buckets) <= 1024
