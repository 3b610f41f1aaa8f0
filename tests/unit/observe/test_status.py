"""The document of GET /edged/status."""

from __future__ import annotations

import msgspec

from edged.errors import fault
from edged.observe.metrics import Figures
from edged.observe.resources import Box, Process, Resources, Total
from edged.observe.status import DaemonStatus, Install, Status, build
from tests.unit.observe.facts import Facts

DAEMON = DaemonStatus("0.1.0", "press-07", 5, 61.0, {"connected": True, "url": "mqtt://b"})


def test_it_survives_json_and_later_members() -> None:
    resources = Resources(Box(2), {7: Process(7, rss=50, cpu_s=1.257, threads=1)}, Total(3, 100, 2.5))
    models = [
        Facts("cam", "failed", fault=fault("over_memory", "it took too much")),
        Facts("digits", pid=7, version="2"),
    ]
    figures = {"digits": Figures(10, 2, {"queue_full": 1}, 1, 3.14159, 0.0015, None)}
    installs = {"digits": {"phase": "trial", "verdict": None, "code": None, "trial": {"inputs": 3}}}
    status = build(DAEMON, models, figures, resources, installs)
    document = msgspec.to_builtins(status)
    assert msgspec.convert({**document, "later": 1}, Status) == status
    cam, digits = status.models
    assert cam.fault is not None
    assert (cam.fault["code"], cam.memory_bytes, cam.install) == ("over_memory", None, None)
    assert (digits.memory_bytes, digits.cpu_s, digits.rate, digits.p50_ms, digits.p99_ms) == (50, 1.26, 3.14, 1.5, None)
    assert digits.install == Install("trial")


def test_before_the_first_sample() -> None:
    status = build(DAEMON, [Facts("digits", "starting")], {}, None, {})
    assert (status.box, status.tree, status.models[0].memory_bytes) == (None, None, None)
