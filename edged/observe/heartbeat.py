"""Decides whether the watchdog may be fed: only real progress feeds it (RULES 8). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

GRACE_S: Final = 5.0  # past limits.run, in which the daemon itself ends a hung process


class Running(msgspec.Struct, frozen=True):
    """The oldest batch in a model's process: how long it has been there, and what limits.run allows it."""

    model: str
    age_s: float
    limit_s: float


class Pulse(msgspec.Struct, frozen=True):
    """The facts of one interval. Times are of the monotonic clock, in seconds.

    `ticked_s`: when the event loop last ran a timer. `mqtt_alive`: MQTT is served, or a connect is under
    way or scheduled, or no broker is configured; an absent broker is alive. `running`: oldest batches.
    """

    ticked_s: float
    mqtt_alive: bool
    running: tuple[Running, ...] = ()


def stuck(pulse: Pulse, now_s: float, interval_s: float) -> str | None:
    """Why the watchdog must not be fed, for the journal; None when everything moves.

    A model that failed or waits holds no batch and does not count.
    """
    silent_s = now_s - pulse.ticked_s
    if silent_s > interval_s:
        return f"the event loop has not ticked for {silent_s:.1f} s"
    if not pulse.mqtt_alive:
        return "MQTT is neither served nor about to connect"
    hung = _hung(pulse.running)
    if hung is not None:
        return f"{hung.model}: a batch is {hung.age_s:.1f} s old, its limit is {hung.limit_s:g} s"
    return None


def _hung(running: Iterable[Running]) -> Running | None:
    return next((one for one in running if one.age_s > one.limit_s + GRACE_S), None)
