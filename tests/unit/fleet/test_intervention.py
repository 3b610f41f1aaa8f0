"""An operator's word to a rollout: a pause, and the way back without a key."""

from __future__ import annotations

import pytest

from edged.delivery.documents import Want
from edged.errors import EdgedError
from edged.fleet import intervention, ordering
from edged.topics import Ota
from tests.devices import MODEL, V1, Memory
from tests.operators import signing
from tests.signing import Operator

V2 = "2" * 64
OTA = Ota("edged")
OPERATOR = Operator()
TRUST = OPERATOR.trust
sign = signing(OPERATOR)


def pushed(count: int = 10, to: str = "all", flawed: dict[str, tuple[str, str]] | None = None) -> Memory:
    """A fleet on the way to version 2."""
    broker = Memory(count, TRUST)
    for name, flaw in (flawed or {}).items():
        broker.devices[name].flaws[V2] = flaw
    want, undo = ordering.draw(broker.now(), Want(MODEL, to, 0, 0, 0, V2, 2), broker.now_ms())
    ordering.publish(OTA, want, undo, sign, broker.bring)
    return broker


def pause(broker: Memory, to: str = "") -> Want | None:
    return intervention.pause(broker.now(), MODEL, to, OTA, sign, broker.bring, broker.now_ms() + 1)


def undo(broker: Memory, to: str = "", *, only_bad: bool = False) -> intervention.Undone:
    return intervention.undo(broker.now(), MODEL, to, OTA, broker.bring, only_bad=only_bad)


def test_a_pause_stops_boxes_that_have_not_switched_and_those_on_probation_finish() -> None:
    broker = pushed(20)
    slow = [broker.devices[name] for name in list(broker.devices)[:5]]
    for device in slow:
        device.due_s += 100
    while not any(one.phase == "probation" for one in broker.devices.values()):
        broker.wait(0.5)
    probation = [one for one in broker.devices.values() if one.phase == "probation"]
    before = [one for one in broker.devices.values() if one.phase != "probation" and one.active == V1]
    paused = pause(broker)
    assert paused is not None
    assert paused.rollout.pause
    broker.wait(200)
    assert all(one.active == V2 and one.verdict == "active" for one in probation)
    assert before
    assert all((one.active, one.phase, one.code) == (V1, "waiting", "paused") for one in before)
    assert pause(broker) is None


def test_an_undo_of_all_takes_no_key_and_brings_everybody_back() -> None:
    broker = pushed()
    broker.wait(30)
    assert broker.running(V2) == set(broker.devices)
    undone = undo(broker)
    assert undone.all
    broker.wait(30)
    assert broker.running(V1) == set(broker.devices)
    assert all((one.verdict, one.code) == ("rolled_back", "undone") for one in broker.devices.values())
    again = undo(broker)
    assert not again.all
    assert not again.boxes


def test_an_undo_in_the_middle_cancels_what_is_under_way() -> None:
    broker = pushed()
    broker.wait(2)
    assert any(one.phase != "idle" for one in broker.devices.values())
    undo(broker)
    broker.wait(60)
    assert broker.running(V1) == set(broker.devices)


def test_an_undo_of_the_bad_ones_leaves_the_others_alone() -> None:
    broker = pushed(flawed={"box-0001": ("trial", "golden")})
    broker.wait(30)
    away = broker.devices["box-0003"]
    broker.cut(away)
    undone = undo(broker, only_bad=True)
    assert undone.boxes == ("box-0003",)  # box-0001 has never run it
    broker.kept[away.tree.status] = b"online"
    broker.connect(away)
    assert away.active == V1
    assert broker.running(V2) == set(broker.devices) - {"box-0001", "box-0003"}
    assert undo(broker, only_bad=True).boxes == ()


def test_a_group_s_undo_reaches_its_bad_boxes_and_nobody_else() -> None:
    broker = pushed(to="group/half")
    broker.wait(30)
    members = broker.running(V2)
    assert members == {name for name, one in broker.devices.items() if one.groups}
    undone = undo(broker, "group/half")
    assert undone.undo.to == "group/half"
    assert broker.running(V2) == set()


def test_without_an_order_or_its_undo_it_is_refused_clearly() -> None:
    for act in (pause, undo):
        with pytest.raises(EdgedError) as caught:
            act(Memory(3, TRUST))
        assert caught.value.fault.code == "no_order"
        with pytest.raises(EdgedError) as caught:
            act(pushed(3), "group/half")
        assert caught.value.fault.code == "no_order"
    broker = pushed(3)
    del broker.kept[OTA.undo(MODEL, "all")]
    with pytest.raises(EdgedError) as caught:
        undo(broker)
    assert caught.value.fault.code == "no_undo"
    assert "no undo of version 2" in caught.value.fault.message


def test_the_undo_of_an_older_want_is_not_taken_for_the_newest_s() -> None:
    broker = pushed(3)
    old = broker.kept[OTA.undo(MODEL, "all")]
    broker.clock_s += 10
    want, way_back = ordering.draw(broker.now(), Want(MODEL, "all", 0, 0, 0, "3" * 64, 3), broker.now_ms())
    ordering.publish(OTA, want, way_back, sign, broker.bring)
    broker.kept[OTA.undo(MODEL, "all")] = old
    with pytest.raises(EdgedError) as caught:
        undo(broker)
    assert caught.value.fault.code == "no_undo"
