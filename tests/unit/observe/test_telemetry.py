"""The flat JSON: its keys, its units, and that no model's name can take a key of the box."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from edged.observe.metrics import Figures
from edged.observe.resources import Box, Process, Resources, Total
from edged.observe.telemetry import build
from tests.unit.observe.facts import Facts, Mqtt

FULL = Box(
    cores=4, cpu=0.25, load_1m=0.5, memory_total=4 * 2**30, memory_available=2**30, disk_total=10**10, disk_free=10**9,
    network_received=5, network_sent=6, temperature=51.5, uptime_s=3600.0,
)  # fmt: skip
RESOURCES = Resources(FULL, {7: Process(7, rss=50, cpu_s=1.25, threads=1, pss=40)}, Total(3, 100, 2.5))
FIGURES = Figures(10, 2, {"queue_full": 1, "drop_oldest": 2}, 1, rate=0.5, p50_s=0.0012345678, p99_s=0.1)


def test_a_message_is_flat_and_complete() -> None:
    models = [Facts("digits", version="2", pid=7, queue=3, in_flight=1)]
    found = build(models, {"digits": FIGURES}, RESOURCES, Mqtt(dropped={"flood": 4}), ts_ms=1700000000123, seq=5)
    assert json.loads(json.dumps(found)) == found
    assert all(isinstance(value, int | float | str) for value in found.values())
    assert (found["ts"], found["seq"]) == (1700000000123, 5)
    assert (found["cpu_ratio"], found["temperature_celsius"], found["memory_available_bytes"]) == (0.25, 51.5, 2**30)
    assert (found["edged_used_bytes"], found["edged_cpu_used_seconds_total"]) == (100, 2.5)
    assert found["mqtt_discarded_flood_total"] == 4
    digits = {name.removeprefix("digits_"): value for name, value in found.items() if name.startswith("digits_")}
    assert digits == {
        "state": "serving", "version": "2", "requests_total": 10, "errors_total": 2, "dropped_total": 3,
        "dropped_queue_full_total": 1, "dropped_drop_oldest_total": 2, "restarts_total": 1,
        "requests_per_second": 0.5, "p50_seconds": 0.001235, "p99_seconds": 0.1, "queue": 3, "in_flight": 1,
        "memory_bytes": 40, "cpu_seconds_total": 1.25,
    }  # fmt: skip


def test_what_does_not_exist_has_no_key() -> None:
    found = build([Facts("cam", "waiting")], {}, Resources(Box(2), {}, Total()), None, ts_ms=1, seq=1)
    assert None not in found.values()
    assert {"temperature_celsius", "cpu_ratio", "cam_p50_seconds", "cam_memory_bytes", "cam_version"}.isdisjoint(found)
    assert (found["cam_state"], found["cam_requests_total"]) == ("waiting", 0)


BOX_KEYS = build([], {}, RESOURCES, Mqtt(dropped={"flood": 1}), ts_ms=1, seq=1).keys()
MODEL_KEYS = [key.removeprefix("x_") for key in build([Facts("x", version="1", pid=7)], {"x": FIGURES}, RESOURCES, None,
                                                      ts_ms=1, seq=1) if key.startswith("x_")]  # fmt: skip


@given(st.sampled_from(sorted(BOX_KEYS)), st.sampled_from(MODEL_KEYS))
def test_no_model_name_takes_a_key_of_the_box(key: str, figure: str) -> None:
    name = key.removesuffix(f"_{figure}")
    assert name == key or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
