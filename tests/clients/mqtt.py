"""Waiting for what comes to a user at the broker."""

from __future__ import annotations

import time
from typing import Any

from tests.integration.mqtt.box import User


def collect(user: User, topic: str, count: int, limit_s: float = 30) -> list[dict[str, Any]]:
    """The messages on a topic as JSON, once there are `count`; fewer within the limit fail the test."""
    until_s = time.monotonic() + limit_s
    while len(user.on(topic)) < count:
        assert time.monotonic() < until_s, f"{len(user.on(topic))} of {count} messages on {topic}"
        time.sleep(0.01)
    return user.json(topic)
