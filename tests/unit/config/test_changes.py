"""What a reload may change, and what it tells about it."""

from __future__ import annotations

import msgspec
import pytest

from edged.config.changes import LIVE, Changes, changes
from edged.config.schema import Config, Limits, Model, Mqtt, Probation, Push, Sockets, Telemetry
from edged.config.units import Duration, Size

MQTT = Mqtt(("mqtt://a",))
BEFORE = Config(
    device="box",
    sockets=Sockets("/run/x.sock"),
    mqtt=MQTT,
    models=(Model("a", "a.onnx"), Model("b", "b.onnx"), Model("c")),
)


def after(**fields: object) -> Changes:
    return changes(BEFORE, msgspec.structs.replace(BEFORE, **fields))


def test_nothing_has_changed() -> None:
    assert after() == Changes()
    assert str(after()) == "nothing has changed"


def test_models_that_come_and_go_and_differ() -> None:
    found = after(models=(Model("d"), Model("b", "b.onnx", threads=2), Model("a", "a.onnx")))
    assert found == Changes(added=("d",), removed=("c",), changed=("b",))
    assert str(found) == "added d; removed c; changed b"


def test_the_order_of_models_is_no_change() -> None:
    assert after(models=BEFORE.models[::-1]) == Changes()


def test_what_is_read_at_the_start_alone_is_told_by_its_key() -> None:
    assert after(device="other").restart == ("device",)
    assert after(mqtt=None).restart == ("mqtt",)
    mqtt = msgspec.structs.replace(MQTT, base="plant", keepalive=Duration(60))
    assert after(mqtt=mqtt, sockets=Sockets("/run/y.sock")).restart == ("sockets.unix", "mqtt.keepalive", "mqtt.base")


def test_what_takes_effect_at_once_is_told_too() -> None:
    push = Push(require_signature=False, max_size=Size(2**20), probation=Probation(runs=5))
    found = after(push=push, telemetry=Telemetry(Duration(1)), groups=("line",))
    assert found.restart == ()
    assert set(found.settings) == {
        "groups",
        "push.require_signature",
        "push.max_size",
        "push.probation.runs",
        "telemetry.interval",
    }


def every_key(struct: type[msgspec.Struct], path: str = "") -> list[str]:
    found = []
    for field in msgspec.structs.fields(struct):
        here = f"{path}{field.encode_name}"
        inner = field.type if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct) else None
        found += every_key(inner, f"{here}.") if inner else [here]
    return found


@pytest.mark.parametrize("key", sorted(LIVE))
def test_every_key_that_is_said_to_be_live_exists(key: str) -> None:
    assert key in every_key(Config)


def test_a_changed_limit_of_a_model_is_the_models() -> None:
    model = Model("a", "a.onnx", limits=Limits(message=Size(2**20)))
    assert after(models=(model, *BEFORE.models[1:])) == Changes(changed=("a",))
