"""The pace of an operator's messages. What happens on the wire: tests/integration/fleet/test_upload.py."""

from __future__ import annotations

import pytest

from edged.config import schema
from edged.transports.mqtt.retained import Retained


class Clock:
    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


def test_no_more_messages_go_than_the_rate_says(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("edged.transports.mqtt.retained.time", clock)
    slow = Retained(schema.Mqtt(("mqtt://x",)), "slow", lambda _: None, rate=10)
    sent = 0
    for _ in range(1000):  # ten seconds
        sent += slow._may_send()
        clock.now_s += 0.01
    assert 95 <= sent <= 102
    clock.now_s += 60  # what was not sent meanwhile is not made up for
    assert [slow._may_send() for _ in range(4)].count(True) <= 2


def test_without_a_rate_nothing_waits() -> None:
    fast = Retained(schema.Mqtt(("mqtt://x",)), "fast", lambda _: None)
    assert all(fast._may_send() for _ in range(1000))
