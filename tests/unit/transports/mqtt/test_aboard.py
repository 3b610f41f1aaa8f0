"""What pushes ask for on the data plane's connection, in which order, and what they leave alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.schema import Model, Push
from edged.topics import Ota, Tree
from edged.transports.mqtt.aboard import Aboard, Question
from edged.transports.mqtt.desk import Desk, Recipient
from edged.transports.mqtt.ends import End
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.wanted import AT_ONCE

TREE, OTA = Tree("edged", "press-07"), Ota("edged")
PUSH = TREE.push("digits")
BLOBS = [OTA.blob(str(number)) for number in range(4)]
_SETS = st.lists(st.frozensets(st.sampled_from([*BLOBS, *map(OTA.trust, range(9))])), min_size=1, max_size=12)


class Ride:
    """An Aboard with a broker that grants everything, and the clock of both."""

    def __init__(self, *, on: bool = True) -> None:
        self.now_s = 0.0
        self.documents: list[tuple[str, bytes, bool]] = []
        self.courier: list[bool] = []
        self.number = 0
        self.subscribed: set[str] = set()
        self.brought: set[str] = set()
        recipient = Recipient(
            lambda *_: None, lambda *_: None, lambda *document: self.documents.append(document), self.courier.append
        )
        self.desk = Desk(TREE, recipient, lambda _reason: None)
        self.desk.adopt([Model("digits")], Push(connection="shared"))
        self.aboard = Aboard(TREE, self.desk, lambda: self.now_s)
        self.aboard.switch(on=on)

    def listen(self, *topics: str) -> None:
        self.number += 1
        self.desk.wanted = self.desk.wanted.listening(topics, self.number)
        self.aboard.look()

    def ask(self, *, busy: bool = False) -> Question | None:
        """One question, put to the broker."""
        question = self.aboard.next(busy=busy)
        if question is not None and question.kind == "gone":
            self.subscribed -= set(question.filters)
        elif question is not None:
            self.subscribed |= set(question.filters)
            self.brought |= set(question.filters)
        return question

    def grant(self) -> None:
        self.aboard.answered([""])

    def come(self, topic: str) -> bool:
        call = self.aboard.take(Arrival(topic, b"x", 1, True, 1, 1))
        if call is not None:
            call()
        return call is not None


def test_blobs_are_asked_for_one_by_one_after_all_else() -> None:
    ride = Ride()
    ride.listen(*BLOBS, OTA.trust(2))
    assert ride.ask() is None  # inputs first
    ride.aboard.opened(session_present=False)
    for topics in ([PUSH], [OTA.trust(2)], BLOBS[:1]):
        assert ride.ask() == Question("pushes" if topics == [PUSH] else "documents", topics)
        assert ride.ask() is None  # until that is answered
        ride.grant()
    assert ride.ask() is None
    assert ride.come(BLOBS[0])
    assert ride.ask() == Question("documents", BLOBS[1:2])
    ride.grant()
    ride.now_s = 10.0  # the broker has not got it
    assert ride.aboard.again_s is None
    ride.aboard.look()
    assert ride.ask(busy=True) is None  # or it is on its way
    assert ride.aboard.again_s is not None
    ride.aboard.look()
    assert ride.ask() == Question("documents", BLOBS[2:3])


def test_nothing_is_asked_or_taken_where_pushes_come_another_way() -> None:
    ride = Ride(on=False)
    ride.listen(OTA.trust(2))
    ride.aboard.opened(session_present=False)
    assert ride.ask() is None
    assert not ride.come(OTA.trust(2))
    assert not ride.come(PUSH)
    assert ride.courier == []


def test_what_an_earlier_daemon_had_come_this_way_is_given_back() -> None:
    ride = Ride(on=False)
    ride.listen(OTA.trust(2))
    ride.aboard.opened(session_present=True)
    question = ride.ask()
    assert question is not None
    assert (question.kind, set(question.filters)) == ("gone", {PUSH, OTA.trust(2)})
    ride.aboard.lost(End.AWAY)
    ride.aboard.opened(session_present=True)
    assert ride.ask() is None


def test_what_comes_and_nobody_wants_is_given_back_once() -> None:
    ride = Ride()
    ride.aboard.opened(session_present=True)
    ride.ask()
    ride.grant()
    for _ in range(2):
        assert not ride.come(BLOBS[3])
    assert ride.ask() == Question("gone", [BLOBS[3]])
    assert ride.ask() is None
    assert not ride.come(BLOBS[3])
    assert ride.ask() is None


def test_what_the_session_has_is_given_back_also_when_it_was_wanted_at_the_connect() -> None:
    ride = Ride()
    ride.listen(OTA.trust(2))
    ride.aboard.opened(session_present=False)
    ride.ask()
    ride.grant()
    ride.ask()
    ride.aboard.lost(End.AWAY)
    ride.aboard.opened(session_present=True)
    ride.listen()
    assert ride.ask() == Question("gone", [OTA.trust(2)])


def test_delivery_has_a_connection_while_there_is_one_and_pushes_come_by_it() -> None:
    ride = Ride()
    ride.aboard.opened(session_present=False)
    ride.aboard.switch(on=False)
    ride.aboard.switch(on=True)
    ride.aboard.lost(End.CLOSED)
    assert ride.courier == [True, False, True, False]


@pytest.mark.parametrize(("end", "losses"), [(End.CLOSED, 3), (End.NAMED, 1)])
def test_a_question_over_which_the_broker_closes_rests(end: End, losses: int) -> None:
    ride = Ride()
    ride.listen(OTA.trust(2))
    for _ in range(losses):
        ride.aboard.opened(session_present=False)
        ride.ask()
        ride.grant()
        assert ride.ask() == Question("documents", [OTA.trust(2)])
        ride.aboard.lost(end)
    ride.aboard.opened(session_present=False)
    assert ride.ask() == Question("pushes", [PUSH])
    ride.grant()
    assert ride.ask() is None
    assert ride.aboard.again_s == 60.0
    ride.now_s = 60.0
    ride.aboard.look()
    assert ride.ask() == Question("documents", [OTA.trust(2)])


def test_a_link_that_breaks_is_nobodys_fault() -> None:
    ride = Ride()
    ride.listen(OTA.trust(2))
    for _ in range(9):
        ride.aboard.opened(session_present=False)
        assert ride.ask() == Question("pushes", [PUSH])
        ride.aboard.lost(End.AWAY)


@given(_SETS, st.data())
def test_the_broker_ends_with_what_is_wanted_whatever_happens_meanwhile(
    sets: list[frozenset[str]], data: st.DataObject
) -> None:
    ride = Ride()
    ride.aboard.opened(session_present=False)
    before: frozenset[str] = frozenset()
    for topics in sets:
        ride.brought -= topics - before
        ride.listen(*topics)
        before = topics
        for step in data.draw(
            st.lists(st.sampled_from(["ask", "grant", "come", "lose", "time", "switch"]), max_size=6)
        ):
            if step == "ask":
                ride.ask()
            elif step == "grant":
                ride.grant()
            elif step == "come" and topics:
                ride.come(data.draw(st.sampled_from(sorted(topics))))
            elif step == "lose":
                ride.aboard.lost(End.AWAY)
                ride.brought.clear()
                kept = data.draw(st.booleans())
                ride.subscribed = ride.subscribed if kept else set()
                ride.aboard.opened(session_present=kept)
            elif step == "switch":
                ride.aboard.switch(on=not ride.aboard.on)
            else:
                ride.now_s += 1.0
                ride.aboard.look()
    ride.aboard.switch(on=True)
    for _ in range(60):
        question = ride.ask()
        assert question is None or 0 < len(question.filters) <= AT_ONCE
        ride.grant()
        ride.now_s += 1.0
        ride.aboard.look()
    assert ride.subscribed == {PUSH, *sets[-1]}
    assert sets[-1] <= ride.brought
