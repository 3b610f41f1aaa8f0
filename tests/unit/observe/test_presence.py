"""What the box says it is."""

from __future__ import annotations

import msgspec
import pytest

from edged.config.schema import Config, Input, Model, Output, Push, Sockets
from edged.observe.presence import info, summary
from edged.observe.status import Reloaded
from tests.unit.observe.facts import Facts

DIGITS = Model("digits", inputs=(Input("cells/+cell/scan"),), output=Output("cells/{cell}/digit"))
BOX = Config("press-07", Sockets(), models=(DIGITS, Model("cam")), groups=("line-2",))


def test_the_members_of_info() -> None:
    models = (Facts("digits", version="2", direct="/run/edged/fast.digits.sock"), Facts("cam", state="waiting"))
    found = info(BOX, {"instance": "a1", "host": "h"}, models, Reloaded(5, "it took effect"))
    assert msgspec.json.encode(found)
    assert {name: found[name] for name in ("device", "instance", "host", "groups", "telemetry_interval_s")} == {
        "device": "press-07",
        "instance": "a1",
        "host": "h",
        "groups": ("line-2",),
        "telemetry_interval_s": 10.0,
    }
    common = {"version": "", "state": "waiting", "message_limit": 1024, "providers": ("CPUExecutionProvider",)}
    assert found["models"] == [
        {**common, "name": "digits", "state": "serving", "version": "2", "direct": "/run/edged/fast.digits.sock"},
        {**common, "name": "cam"},
    ]
    assert found["inputs"] == {"digits": ["cells/+cell/scan"], "cam": []}
    assert found["subscriptions"] == ["cells/+/scan"]
    assert found["outputs"] == {"digits": "cells/{cell}/digit", "cam": "edged/press-07/models/cam/result"}
    assert found["reload"] == {"at_ms": 5, "message": "it took effect", "code": "", "hint": "", "by": ""}
    assert info(BOX, {}, (), None)["reload"] is None


def test_whoever_takes_unsigned_pushes_says_so() -> None:
    open_box = msgspec.structs.replace(BOX, push=Push(require_signature=False))
    assert (info(BOX, {}, (), None)["flags"], info(open_box, {}, (), None)["flags"]) == ([], ["unsigned_ok"])


def test_a_model_that_runs_elsewhere_than_it_is_meant_to_is_a_flag() -> None:
    found = info(BOX, {}, (Facts("digits"), Facts("cam", fallback="cuda: why")), None)
    assert found["flags"] == ["fallback"]
    assert [one.get("fallback") for one in found["models"]] == [None, "cuda: why"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("models", "namesake", "line"),
    [
        ((), "", "no models"),
        ((Facts("digits", version="2"), Facts("cam", state="waiting")), "", "digits 2 serving, cam waiting"),
        ((Facts("cam", state="waiting"),), "other", "cam waiting; MQTT waits: other is online as press-07"),
    ],
)
def test_the_line_that_systemd_has(models: tuple[Facts, ...], namesake: str, line: str) -> None:
    assert summary(models, "press-07", namesake) == line
