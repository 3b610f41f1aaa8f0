"""The fleet from retained messages: what is understood, what is passed over, which order counts for a box."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.delivery import documents
from edged.delivery.documents import Undo, Want
from edged.delivery.envelope import Envelope
from edged.fleet import view
from edged.fleet.view import Box, Install, Version, Wanted, build

V2 = "2" * 64
V3 = "3" * 64


def want(to: str = "all", seq: int = 100, release: str = V2, *, epoch: int = 0, model: str = "digits") -> Want:
    return Want(model, to, seq, 1, 10**15, release, 2, epoch=epoch)


def undo(to: str = "all", seq: int = 101, release: str = V2) -> Undo:
    return Undo("digits", to, seq, 1, 10**15, release)


def lying(order: Want | Undo, topic: str = "") -> tuple[str, bytes]:
    """The order as a retained message, on its own topic or on another one."""
    kind = "want" if isinstance(order, Want) else "undo"
    content = Envelope(kind, documents.encode(order)).encode()
    return topic or f"edged/ota/{kind}/{order.model}/{order.to}", content


def says(**members: Any) -> bytes:
    return json.dumps(members).encode()


INFO = says(
    edged="1.2.0",
    host="pi-07",
    boot="b1",
    ts=5,
    groups=["line-2"],
    flags=["unsigned_ok"],
    models=[{"name": "digits", "state": "serving", "version": "1"}],
)
STATUS = says(
    phase="downloading",
    verdict=None,
    code=None,
    active={"version": "1", "sha256": "aa", "release": ""},
    candidate={"version": "2", "sha256": "bb", "release": V2},
    want={"release": V2, "version": "2", "seq": 100, "signers": ["0123456789abcdef"]},
    bytes_have=50,
    bytes_total=200,
    replays=3,
    held={"by": "root", "pinned": True},
    flags=["clock_unsynced"],
    refused={"all": "signature", "group/a": 7},
)


def test_a_box_is_what_its_topics_say() -> None:
    fleet = build(
        {"edged/press-07/status": b"online", "edged/press-07/info": INFO, "edged/press-07/install/digits": STATUS},
        "edged",
    )
    (box,) = fleet.boxes
    assert (box.name, box.online, box.groups, box.edged, box.host) == ("press-07", True, ("line-2",), "1.2.0", "pi-07")
    assert (box.boot, box.at_ms, box.flags) == ("b1", 5, ("unsigned_ok",))
    model = box.model("digits")
    assert model is not None
    assert (model.state, model.running) == ("serving", "1")
    install = model.install
    assert (install.phase, install.verdict, install.bytes_have, install.bytes_total) == ("downloading", "", 50, 200)
    assert install.candidate == Version("2", V2, "bb")
    assert install.want == Wanted(V2, "2", 0, 100, ("0123456789abcdef",))
    assert install.refused == {"all": "signature", "group/a": "7"}
    assert (install.held, install.replays, install.flags) == (True, 3, ("clock_unsynced",))
    assert fleet.strange == 0


def test_without_a_word_of_the_broker_a_box_is_not_online() -> None:
    fleet = build({"edged/a/info": INFO, "edged/b/status": b"offline", "edged/c/status": b"\xff?"}, "edged")
    assert {one.name: one.presence for one in fleet.boxes} == {"a": "unknown", "b": "offline", "c": "unknown"}
    assert not any(one.online for one in fleet.boxes)
    assert fleet.strange == 1


def test_the_base_may_have_levels_and_other_bases_are_not_ours() -> None:
    kept = {"plant/a/edged/press-07/status": b"online", "edged/press-08/status": b"online"}
    fleet = build(kept, "plant/a/edged")
    assert [one.name for one in fleet.boxes] == ["press-07"]
    assert fleet.strange == 1


@pytest.mark.parametrize(
    "topic",
    [
        "edged/ota/status",
        "edged/all/status",
        "edged/a.b/status",
        "edged/box/models/digits/status",
        "edged/box/install/a.b",
        "edged/box/install",
        "edged/box",
        "edged",
        "$SYS/broker",
    ],
)
def test_a_topic_that_is_no_boxs_is_passed_over(topic: str) -> None:
    assert build({topic: b"online"}, "edged") == view.Fleet(strange=1)


@pytest.mark.parametrize(
    "garbage",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 5000, b'{"phase": {}}', b'{"want": 7, "flags": "x", "active": []}'],
)
def test_garbage_where_a_status_is_expected_leaves_a_box_without_one(garbage: bytes) -> None:
    fleet = build({"edged/box/status": b"online", "edged/box/install/m": garbage, "edged/box/info": garbage}, "edged")
    (box,) = fleet.boxes
    assert box.online
    (model,) = box.models
    assert (model.install, model.running) == (Install(), "")


def test_what_is_longer_than_anything_of_edgeds_is_not_read() -> None:
    assert build({"edged/box/info": b" " * (view.LARGEST + 1)}, "edged") == view.Fleet(strange=1)


KEYS = st.sampled_from(
    ["phase", "verdict", "active", "candidate", "want", "held", "flags", "groups", "models", "bytes_have", "probation"]
)
SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(KEYS, SOME_JSON))
def test_no_json_ends_the_reading(document: dict[str, Any]) -> None:
    content = json.dumps(document).encode()
    kept = {f"edged/box/{one}": content for one in ("status", "info", "install/m")}
    assert [one.name for one in build(kept, "edged").boxes] == ["box"]


@given(st.dictionaries(st.text(), st.binary()))
def test_no_message_ends_the_reading(kept: dict[str, bytes]) -> None:
    build({**kept, **{f"edged/{topic}": payload for topic, payload in kept.items()}}, "edged")
    build({f"edged/ota/want/{topic}": payload for topic, payload in kept.items()}, "edged")


# --- orders ---------------------------------------------------------------------------------------------


def fleet_with(*orders: tuple[str, bytes], **more: Any) -> view.Fleet:
    return build({"edged/press-07/status": b"online", "edged/press-07/info": INFO, **dict(orders)}, "edged", **more)


def counting(fleet: view.Fleet, box: str = "press-07") -> tuple[str, int] | None:
    found = fleet.box(box)
    assert found is not None
    newest = fleet.newest("digits", found)
    return (newest.to, newest.order.seq) if newest else None


def test_the_newest_order_counts_whatever_its_scope() -> None:
    canary, everyone = want("device/press-07", 100), want("all", 200, V3)
    assert counting(fleet_with(lying(canary), lying(everyone))) == ("all", 200)
    assert counting(fleet_with(lying(canary), lying(want("all", 50)))) == ("device/press-07", 100)
    assert counting(fleet_with(lying(canary), lying(want("group/line-2", 150)))) == ("group/line-2", 150)
    assert counting(fleet_with(lying(canary), lying(want("all", 7, epoch=1)))) == ("all", 7)


def test_an_order_for_others_does_not_count_for_a_box() -> None:
    others = [lying(want("device/press-08", 300)), lying(want("group/line-3", 300)), lying(want(model="m", seq=300))]
    fleet = fleet_with(*others, lying(want("all", 100)))
    assert counting(fleet) == ("all", 100)
    last = fleet.last("digits")
    assert last is not None
    assert last.order.seq == 300


def test_a_box_in_two_groups_follows_the_newer_of_both() -> None:
    box = Box("a", "online", ("line-2", "pi4"))
    kept = dict([lying(want("group/line-2", 100)), lying(want("group/pi4", 120, V3))])
    newest = build(kept, "edged").newest("digits", box)
    assert newest is not None
    assert newest.to == "group/pi4"


def test_what_nobody_who_counts_has_signed_is_shown_and_not_followed() -> None:
    good, forged = lying(want("all", 100)), lying(want("device/press-07", 999))
    fleet = fleet_with(good, forged, counts=lambda content: content == good[1])
    assert {one.order.seq: one.signed for one in fleet.wants} == {100: True, 999: False}
    assert counting(fleet) == ("all", 100)
    assert counting(fleet_with(good, forged)) == ("device/press-07", 999)  # nobody could check


def test_an_undo_lies_ready_or_is_in_use_and_may_be_used_for_less() -> None:
    ready = lying(undo())
    assert [one.order.seq for one in fleet_with(ready).undos] == [101]
    assert counting(fleet_with(ready)) is None
    for_one = lying(undo(), "edged/ota/want/digits/device/press-07")
    fleet = fleet_with(lying(want()), for_one)
    assert counting(fleet) == ("device/press-07", 101)
    other = lying(undo("device/press-08", 300), "edged/ota/want/digits/group/line-2")
    assert counting(fleet_with(lying(want()), other)) == ("all", 100)  # it lies where many listen, and is meant for one


@pytest.mark.parametrize(
    ("topic", "order"),
    [
        ("edged/ota/want/digits/group/line-2", want("all")),
        ("edged/ota/want/cells/all", want("all")),
        ("edged/ota/want/digits", want("all")),
        ("edged/ota/want/digits/all/x", want("all")),
        ("edged/ota/undo/digits/device/press-07", undo("all")),
    ],
)
def test_an_order_on_a_topic_that_is_not_its_own_is_none(topic: str, order: Want | Undo) -> None:
    fleet = fleet_with(lying(order, topic))
    assert (fleet.wants, fleet.undos, fleet.strange) == ((), (), 1)
