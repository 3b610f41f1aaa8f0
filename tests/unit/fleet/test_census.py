"""Reading a fleet from a broker that leaves messages out: what is found all the same, and what is said of the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import msgspec
import pytest

from edged.fleet import census
from edged.fleet.census import Census
from edged.transports.mqtt.retained import Heard
from edged.transports.mqtt.subscriptions import covers

INFO = json.dumps({"models": [{"name": "digits", "state": "serving", "version": "1"}]}).encode()
STATUS = json.dumps({"phase": "idle", "active": {"version": "1"}}).encode()


class Forgetful:
    """A broker that answers each wildcard with `most` messages; what is asked for by name it has all of."""

    def __init__(self, kept: dict[str, bytes], most: int) -> None:
        self.kept = kept
        self.most = most
        self.census = Census("edged")
        self.looked = 0
        self.asked: list[str] = []

    def listen(self, filters: Sequence[str], *, qos: int = 1, settle_s: float = 0.5) -> None:
        assert qos == 0  # at QoS 1 the queue of a real one is the limit
        self.asked += filters
        for one in filters:
            found = [topic for topic in self.kept if covers(one, topic)]
            for topic in found[: self.most]:
                self.census.hear(Heard(topic, self.kept[topic], retained=True))

    def look(self, topics: Sequence[str], fence: str = "", *, grace_s: float = 0.05) -> bool:
        self.looked += len(topics)
        for topic in topics:
            if topic in self.kept:
                self.census.hear(Heard(topic, self.kept[topic], retained=True))
        return True

    def turn(self, limit_s: float = 0.1) -> None:
        time.sleep(limit_s)


def kept(count: int, *, installs: bool = True) -> dict[str, bytes]:
    names = [f"box-{number}" for number in range(count)]
    found = {f"edged/{name}/status": b"online" for name in names}
    found |= {f"edged/{name}/info": INFO for name in names}
    found |= {f"edged/{name}/install/digits": STATUS for name in names if installs}
    return found


def test_a_broker_that_leaves_nothing_out_is_believed() -> None:
    broker = Forgetful(kept(20), 1000)
    fleet = broker.census.take(broker)
    assert (len(fleet.boxes), fleet.incomplete, broker.looked) == (20, (), 2)  # the orders for all


def test_boxes_that_are_not_listed_are_found_by_what_they_say_and_the_doubt_is_told() -> None:
    everything = kept(20)
    broker = Forgetful(everything, 15)
    fleet = broker.census.take(broker)
    assert (len(fleet.boxes), fleet.incomplete) == (15, ())  # the same 15 of everything: nobody can tell
    assert all(box.online and box.model("digits") for box in fleet.boxes)
    statuses = dict(list(everything.items())[:20])
    backwards = Forgetful({**statuses, **dict(reversed(everything.items()))}, 15)  # and now the last of the infos
    fleet = backwards.census.take(backwards)
    assert len(fleet.boxes) == 20
    assert all(box.online and box.model("digits") for box in fleet.boxes)
    assert fleet.incomplete == ("the broker lists 15 boxes and left out 5, so others may be missing here",)
    strangers = Forgetful({**everything, "edged/stranger/info": b"{}"}, 1000)  # who has no status to be found
    assert strangers.census.take(strangers).incomplete == ()


def test_of_many_boxes_only_the_statuses_are_asked_for_by_wildcard() -> None:
    broker = Forgetful(kept(1000), 1000)
    fleet = broker.census.take(broker)
    assert (len(fleet.boxes), fleet.incomplete) == (1000, ())
    assert all(box.online and box.model("digits") for box in fleet.boxes)
    assert broker.asked == ["edged/+/status", "edged/ota/want/+/#", "edged/ota/undo/+/#"]
    assert not broker.census.live
    huge = Forgetful({f"edged/box-{number}/status": b"online" for number in range(3001)}, 5000)
    (why,) = huge.census.take(huge).incomplete
    assert "3001" in why


def test_what_a_box_need_not_have_is_no_doubt_and_costs_little() -> None:
    few = Forgetful(kept(20, installs=False), 1000)
    assert (len(few.census.take(few).boxes), few.census.fleet.incomplete) == (20, ())
    assert few.census.live
    many = Forgetful(kept(1000, installs=False), 10_000)
    fleet = many.census.take(many)
    assert (len(fleet.boxes), fleet.incomplete) == (1000, ())
    assert many.looked <= 1100


def test_one_model_alone_is_read() -> None:
    others = {"edged/box-0/install/cells": STATUS, "edged/ota/want/cells/all": b"x"}
    broker = Forgetful({**kept(2), **others}, 1000)
    fleet = broker.census.take(broker, "digits")
    assert [one.name for box in fleet.boxes for one in box.models] == ["digits", "digits"]
    assert fleet.strange == 0


def test_what_comes_later_is_known_and_what_is_cleared_is_gone() -> None:
    broker = Forgetful(kept(2), 1000)
    broker.census.take(broker)
    broker.census.hear(Heard("edged/box-0/status", b"offline", retained=False))
    broker.census.hear(Heard("edged/box-1/status", b"", retained=False))
    broker.census.hear(Heard("edged/box-1/info", b"", retained=False))
    broker.census.hear(Heard("edged/box-1/install/digits", b"", retained=False))
    assert [(box.name, box.online) for box in broker.census.fleet.boxes] == [("box-0", False)]


def test_a_broker_full_of_anything_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Forgetful({f"edged/b{number}/status": b"online" for number in range(50)}, 1000)
    broker.kept["edged/big/info"] = bytes(10**6)
    monkeypatch.setattr(census, "_TOPICS", 10)
    fleet = broker.census.take(broker)
    assert len(fleet.boxes) == 10
    (why,) = fleet.incomplete
    assert "was not read" in why


def test_a_message_is_as_large_as_it_may_be() -> None:
    broker = Forgetful({"edged/a/status": b"online", "edged/a/info": b"[" * 70_000}, 10)
    (box,) = broker.census.take(broker).boxes
    assert msgspec.to_builtins(box)["models"] == ()
