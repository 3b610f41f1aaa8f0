"""Waiting for what comes to a user at the broker."""

from __future__ import annotations

from typing import Any

from tests.integration.mqtt.box import User
from tests.waiting import until


def collect(user: User, topic: str, count: int, limit_s: float = 30) -> list[dict[str, Any]]:
    """The messages on a topic as JSON, once there are `count`; fewer within the limit fail the test."""
    until(lambda: len(user.on(topic)) >= count, limit_s)
    return user.json(topic)
