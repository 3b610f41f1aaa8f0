"""What feeds the watchdog and what does not (RULES 8)."""

from __future__ import annotations

import pytest

from edged.observe.heartbeat import Pulse, Running, stuck

WELL = Pulse(ticked_s=100.0, mqtt_alive=True, running=(Running("digits", age_s=1.0, limit_s=2.0),))


@pytest.mark.parametrize(
    "pulse",
    [
        WELL,
        Pulse(ticked_s=85.0, mqtt_alive=True),
        Pulse(ticked_s=100.0, mqtt_alive=True, running=(Running("cam", age_s=7.0, limit_s=2.0),)),
    ],
)
def test_progress_feeds(pulse: Pulse) -> None:
    assert stuck(pulse, now_s=100.0, interval_s=15.0) is None


@pytest.mark.parametrize(
    ("pulse", "why"),
    [
        (Pulse(ticked_s=84.9, mqtt_alive=True), "loop has not ticked for 15.1 s"),
        (Pulse(ticked_s=100.0, mqtt_alive=False), "MQTT"),
        (Pulse(100.0, mqtt_alive=True, running=(*WELL.running, Running("cam", 7.1, 2.0))), "cam: a batch is 7.1 s"),
    ],
)
def test_no_progress_starves(pulse: Pulse, why: str) -> None:
    said = stuck(pulse, now_s=100.0, interval_s=15.0)
    assert said is not None
    assert why in said
