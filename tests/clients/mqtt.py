"""Waiting for what comes to a user at the broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.integration.mqtt.box import User


def until(condition: Callable[[], object], limit_s: float = 10) -> None:
    """Waits until `condition` holds; fails the test when it does not in time."""
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, "it did not come true in time"
        time.sleep(0.01)


def collect(user: User, topic: str, count: int, limit_s: float = 30) -> list[dict[str, Any]]:
    """The messages on a topic as JSON, once there are `count`; fewer within the limit fail the test."""
    until(lambda: len(user.on(topic)) >= count, limit_s)
    return user.json(topic)
