"""What leaves, without a broker: what a refusal sets off while the outbox is emptied, and what finds no room there."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

import pytest

from edged.config import schema
from edged.config.units import Size
from edged.transports.mqtt.backlog import maker
from edged.transports.mqtt.clocks import CLOCKS
from edged.transports.mqtt.counts import Counts
from edged.transports.mqtt.ends import End
from edged.transports.mqtt.outbox import MAX_PACKET, Publication
from edged.transports.mqtt.outlet import Outlet
from edged.transports.mqtt.packets import Greeting
from edged.transports.mqtt.wire import Wire

MANY = 2000


class Sent:
    """A connection's `publish`."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.once: list[str] = []  # those at QoS 0 among them
        self.unsent = 0

    def publish(self, message: Publication) -> int:
        self.topics.append(message.topic)
        if not message.qos:
            self.once.append(message.topic)
        return len(self.topics)


def test_many_results_that_a_broker_will_not_have_any_more_each_tell_it() -> None:
    """Its limit was another one before: each error was sent from inside the sending before, one stack frame deeper."""
    wire: list[Sent] = []
    outlet = Outlet(lambda: cast("Wire", wire[0]) if wire else None, "status", Counts())
    handed: list[int] = []

    def refused(number: int, _code: str, _why: str) -> None:
        outlet.publish(Publication(f"error/{number}", b"", 1))

    for number in range(MANY):
        message = Publication("result", bytes(1000), 1)
        message.handed, message.refused = partial(handed.append, number), partial(refused, number)
        outlet.publish(message)
    wire.append(Sent())
    outlet.opened(Greeting(1, "5", session_present=False, packet_limit=500))
    for mid in range(1, MANY + 1):
        outlet.confirmed(mid, "")
        outlet.pump()
    assert handed == list(range(MANY))
    assert wire[0].topics == [f"error/{number}" for number in range(MANY)]
    assert not len(outlet)


def test_at_qos_0_nothing_is_kept_for_a_broker_that_is_slow() -> None:
    sent, counts = Sent(), Counts()
    outlet = Outlet(lambda: cast("Wire", sent), "status", counts)
    outlet.publish(Publication("first", b"", 0))
    sent.unsent = 2**20 + 1
    outlet.publish(Publication("second", b"", 0))
    sent.unsent = 2**20
    outlet.publish(Publication("third", b"", 0))
    assert (sent.topics, counts.published, counts.dropped) == (["first", "third"], 2, {"slow_broker": 1})


MIB = 2**20


class Crowd:
    """A broker that confirms nothing, and 32 results of 1 MiB that wait for it: one more finds no room in memory."""

    def __init__(self, folder: Path | None = None) -> None:
        self.wire: Sent | None = Sent()
        self.counts = Counts()
        self.handed: list[str] = []
        disk = maker(folder, schema.Outbox(size=Size(4 * MIB)), dropped=self.counts.drop, clocks=CLOCKS)
        self.outlet = Outlet(lambda: cast("Wire", self.wire), "status", self.counts, disk)
        self.outlet.opened(Greeting(1, "5", session_present=False, receive_maximum=1, packet_limit=MAX_PACKET))
        for number in range(32):
            self.publish(f"before/{number}")
        assert self.wire is not None
        assert (self.wire.topics, self.counts.dropped) == (["before/0"], {})
        self.handed.clear()

    def publish(self, topic: str) -> None:
        message = Publication(topic, bytes(MIB), 1)
        message.handed = partial(self.handed.append, topic)
        self.outlet.publish(message)


def test_what_finds_no_room_goes_at_qos_0_to_a_broker_that_is_there() -> None:
    crowd = Crowd()
    for topic in ("one", "two"):
        crowd.publish(topic)
    assert crowd.wire is not None
    assert crowd.wire.once == crowd.handed == ["one", "two"]
    assert (crowd.counts.downgraded, crowd.counts.dropped) == (2, {})


def test_the_disk_is_full_before_anything_goes_at_qos_0(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path)
    for number in range(6):
        crowd.publish(f"more/{number}")
    assert crowd.wire is not None
    assert crowd.wire.once == crowd.handed == ["more/3", "more/4", "more/5"]  # the first ones wait for the disk
    assert (crowd.counts.downgraded, crowd.counts.dropped) == (3, {})


@pytest.mark.parametrize("why", ["away", "slow", "it ended connections"])
def test_without_a_connection_that_takes_it_the_oldest_is_dropped(why: str) -> None:
    crowd = Crowd()
    if why == "it ended connections":
        crowd.outlet.lost(End.NAMED)  # one that was under way may be the reason, and others are no surer
        crowd.outlet.opened(Greeting(2, "5", session_present=False, receive_maximum=1, packet_limit=MAX_PACKET))
    sent, crowd.handed[:] = crowd.wire, []
    assert sent is not None
    if why == "away":
        crowd.wire = None
    elif why == "slow":
        sent.unsent = MIB + 1
    crowd.publish("one")
    assert sent.once == []
    assert (crowd.counts.downgraded, crowd.counts.dropped) == (0, {"outbox_full": 1})
