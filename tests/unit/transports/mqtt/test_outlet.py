"""What leaves, without a broker: what a refusal sets off while the outbox is emptied."""

from __future__ import annotations

from functools import partial
from typing import cast

from edged.transports.mqtt.counts import Counts
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.outlet import Outlet
from edged.transports.mqtt.packets import Greeting
from edged.transports.mqtt.wire import Wire

MANY = 2000


class Sent:
    """A connection's `publish`."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.unsent = 0

    def publish(self, message: Publication) -> int:
        self.topics.append(message.topic)
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
