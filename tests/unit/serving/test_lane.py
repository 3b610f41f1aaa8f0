"""The lane's policy: what is taken, refused, dropped or told to wait, and what makes a batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.channel import MESSAGE_LIMIT, inline_room
from edged.messages import Admission, Input, Outcome, Source
from edged.serving.lane import BYTES, Lane, Ticket


def ticket(
    source: Source = Source.HTTP,
    *,
    name: str = "",
    size: int = 1,
    deadline_s: float | None = None,
) -> Ticket:
    def reply(_outcome: Outcome) -> None: ...

    return Ticket(
        Input(
            "m",
            bytes(size),
            source,
            reply,
            arrived_s=0.0,
            id=name,
            deadline_s=deadline_s,
        )
    )


def names(tickets: list[Ticket]) -> list[str]:
    return [one.item.id for one in tickets]


def filled(*sources: Source, overflow: str | None = None) -> Lane:
    lane = Lane(len(sources), overflow)  # type: ignore[arg-type]
    for index, source in enumerate(sources):
        assert lane.offer(ticket(source, name=str(index))).admission is Admission.TAKEN
    return lane


def test_a_full_queue_refuses_http() -> None:
    assert filled(Source.HTTP).offer(ticket(Source.HTTP)).admission is Admission.REFUSED


def test_a_full_queue_drops_the_oldest_qos0_input_for_a_newer_one() -> None:
    lane = filled(Source.HTTP, Source.MQTT_QOS0, Source.MQTT_QOS0)
    offer = lane.offer(ticket(Source.MQTT_QOS0, name="new"))
    assert offer.admission is Admission.TAKEN
    assert names(list(offer.evicted)) == ["1"]
    assert names(lane.take(9)) == ["0", "2", "new"]


def test_a_qos0_input_never_drives_out_one_that_somebody_waits_for() -> None:
    lane = filled(Source.HTTP, Source.MQTT_QOS1)
    assert lane.offer(ticket(Source.MQTT_QOS0)).admission is Admission.REFUSED


def test_a_full_queue_asks_qos1_to_wait_and_tells_once_when_there_is_room() -> None:
    lane = filled(Source.MQTT_QOS1)
    assert lane.offer(ticket(Source.MQTT_QOS1)).admission is Admission.BLOCKED
    assert not lane.has_room_again()
    lane.take(1)
    assert lane.has_room_again()
    assert not lane.has_room_again()


def test_a_written_policy_wins_over_the_source() -> None:
    assert filled(Source.HTTP, overflow="reject").offer(ticket(Source.MQTT_QOS1)).admission is Admission.REFUSED
    evicted = filled(Source.HTTP, overflow="drop-oldest").offer(ticket(Source.HTTP)).evicted
    assert len(evicted) == 1
    assert filled(Source.HTTP, overflow="block").offer(ticket(Source.HTTP)).admission is Admission.REFUSED


def test_put_back_keeps_the_order_and_leaves_settled_tickets_out() -> None:
    lane = filled(*[Source.HTTP] * 4)
    batch = lane.take(3)
    batch[1].settled = True
    lane.put_back(batch)
    assert names(lane.take(9)) == ["0", "2", "3"]


def test_a_deadline_takes_a_waiting_ticket_out_and_leaves_a_running_one() -> None:
    lane = Lane(4)
    running, waiting, patient = (ticket(name=name, deadline_s=at) for name, at in (("r", 1.0), ("w", 2.0), ("p", 9.0)))
    for one in (running, waiting, patient):
        lane.offer(one)
    lane.take(1)
    assert lane.next_deadline_s() == 1.0
    assert names(lane.expire(2.0)) == ["r", "w"]
    assert names(lane.take(9)) == ["p"]


def test_settled_tickets_are_let_go_of() -> None:
    lane = Lane(10)
    for _ in range(1000):
        one = ticket(deadline_s=10.0)
        lane.offer(one)
        lane.take(1)
        one.settled = True
    assert len(lane._deadlines) <= 16


def test_dropped_tickets_are_let_go_of_while_an_earlier_deadline_stands() -> None:
    lane = Lane(4, "drop-oldest")
    lane.offer(ticket(deadline_s=1.0))
    lane.take(1)  # runs
    for number in range(1000):
        for evicted in lane.offer(ticket(deadline_s=2.0 + number)).evicted:
            evicted.settled = True
    assert len(lane._deadlines) <= 3 * (4 + 1) + 8
    assert lane.next_deadline_s() == 1.0


@pytest.mark.parametrize("size", [MESSAGE_LIMIT, 10 * MESSAGE_LIMIT])
def test_an_input_above_a_message_travels_alone(size: int) -> None:
    lane = Lane(4)
    for name, bytes_ in (("small", 1), ("large", size), ("small too", 1)):
        lane.offer(ticket(name=name, size=bytes_))
    assert [names(lane.take(9)) for _ in range(3)] == [
        ["small"],
        ["large"],
        ["small too"],
    ]


@given(st.lists(st.integers(0, 80_000), max_size=40), st.integers(1, 16))
def test_batches_keep_the_order_and_fit_a_message(sizes: list[int], most: int) -> None:
    lane = Lane(len(sizes) or 1)
    for index, size in enumerate(sizes):
        lane.offer(ticket(name=str(index), size=size))
    seen: list[str] = []
    while batch := lane.take(most):
        assert len(batch) <= most
        assert len(batch) == 1 or inline_room(sum(len(one.item.payload) for one in batch), len(batch))
        seen += names(batch)
    assert seen == [str(index) for index in range(len(sizes))]


def test_payloads_that_wait_are_bounded_by_bytes_too() -> None:
    lane = Lane(10)
    half = BYTES // 2
    for name in "ab":
        assert lane.offer(ticket(Source.MQTT_QOS0, name=name, size=half)).admission is Admission.TAKEN
    assert lane.offer(ticket(Source.HTTP, size=1)).admission is Admission.REFUSED
    assert lane.offer(ticket(Source.MQTT_QOS1, size=1)).admission is Admission.BLOCKED
    offer = lane.offer(ticket(Source.MQTT_QOS0, name="c", size=half + 1))
    assert (offer.admission, names(list(offer.evicted))) == (Admission.TAKEN, ["a", "b"])
    assert lane.has_room_again()
    assert names(lane.take(1)) == ["c"]
    assert lane.offer(ticket(Source.HTTP, size=2 * BYTES)).admission is Admission.TAKEN  # alone, whatever its size


def test_nothing_is_dropped_for_an_input_that_has_no_room_all_the_same() -> None:
    lane = Lane(10)
    lane.offer(ticket(Source.MQTT_QOS0, name="a", size=10))
    lane.offer(ticket(Source.MQTT_QOS1, name="b", size=BYTES - 10))
    assert lane.offer(ticket(Source.MQTT_QOS0, name="c", size=20)).admission is Admission.REFUSED
    assert names(lane.take(9)) == ["a"]
    assert names(lane.take(9)) == ["b"]
