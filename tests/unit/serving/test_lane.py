"""The lane's policy: what is taken, refused, dropped or told to wait, and what makes a batch (RULES 14, 19)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.channel import MESSAGE_LIMIT, inline_room
from edged.messages import Admission, Input, Outcome, Source
from edged.serving import turns
from edged.serving.lane import BYTES, SHARED, STREAMS, Lane
from edged.serving.ranks import PASSED
from edged.serving.turns import Ticket


def ticket(
    source: Source = Source.HTTP,
    *,
    name: str = "",
    size: int = 1,
    deadline_s: float | None = None,
    stream: str = "",
    start_by_s: float | None = None,
    priority: int = 0,
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
            stream=stream,
            start_by_s=start_by_s,
            priority=priority,
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
    batch[1].settle()
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
        one.settle()
    assert len(lane._deadlines) <= 16


def test_dropped_tickets_are_let_go_of_while_an_earlier_deadline_stands() -> None:
    lane = Lane(4, "drop-oldest")
    lane.offer(ticket(deadline_s=1.0))
    lane.take(1)  # runs
    for number in range(1000):
        for evicted in lane.offer(ticket(deadline_s=2.0 + number)).evicted:
            evicted.settle()
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


# --- streams ----------------------------------------------------------------------------------------


def send(lane: Lane, *named: str, source: Source = Source.MQTT_QOS0) -> list[Admission]:
    """Offers inputs named `<stream><number>`."""
    return [lane.offer(ticket(source, name=name, stream=name[0])).admission for name in named]


def test_streams_are_served_in_turn() -> None:
    lane = Lane(8, per="stream")
    send(lane, "a1", "a2", "a3", "a4", "b1", "c1", "b2")
    assert names(lane.take(4)) == ["a1", "b1", "c1", "a2"]
    assert names(lane.take(9)) == ["b2", "a3", "a4"]


def test_a_full_stream_costs_the_others_nothing() -> None:
    lane = Lane(2, per="stream")
    taken, blocked = Admission.TAKEN, Admission.BLOCKED
    assert send(lane, "a1", "a2", "a3", "b1", source=Source.MQTT_QOS1) == [taken, taken, blocked, taken]
    assert not lane.has_room_again()
    lane.take(1)
    assert lane.has_room_again()
    drops = Lane(2, "drop-oldest", per="stream")
    send(drops, "b1", "a1", "a2")
    assert names(list(drops.offer(ticket(name="a3", stream="a")).evicted)) == ["a1"]
    assert names(drops.take(9)) == ["b1", "a2", "a3"]


def test_what_all_streams_share_is_bounded_and_a_quiet_one_has_its_place() -> None:
    lane = Lane(SHARED, "drop-newest", per="stream")
    assert set(send(lane, *["a"] * SHARED)) == {Admission.TAKEN}
    assert send(lane, "a", "b", "b") == [Admission.REFUSED, Admission.TAKEN, Admission.REFUSED]
    for number in range(2, STREAMS):
        assert lane.offer(ticket(stream=str(number))).admission is Admission.TAKEN
    assert lane.offer(ticket(stream="one too many")).admission is Admission.REFUSED
    assert len(lane) == SHARED + STREAMS - 1


def test_where_bytes_are_short_the_heaviest_stream_gives_way() -> None:
    lane = Lane(64, "drop-oldest", per="stream")
    for name in ("a1", "a2", "a3"):
        lane.offer(ticket(name=name, stream="a", size=BYTES // 4))
    lane.offer(ticket(name="b1", stream="b", size=BYTES // 8))
    offer = lane.offer(ticket(name="c1", stream="c", size=BYTES // 4))
    assert names(list(offer.evicted)) == ["a1"]
    assert names(lane.take(1)) == ["a2"]


def test_a_large_input_that_drives_hundreds_out_looks_at_each_stream_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both numbers are senders' to choose, and the loop does nothing else meanwhile."""
    lane, weigh, looked = Lane(8, "drop-oldest", "stream"), turns._weight, 0
    for number in range(4 * STREAMS):
        assert (
            lane.offer(ticket(stream=str(number % STREAMS), size=BYTES // (4 * STREAMS))).admission is Admission.TAKEN
        )

    def counted(line: turns.Line) -> int:
        nonlocal looked
        looked += 1
        return weigh(line)

    monkeypatch.setattr(turns, "_weight", counted)
    offer = lane.offer(ticket(stream="0", size=BYTES // 2))
    assert offer.admission is Admission.TAKEN
    assert len(offer.evicted) == 2 * STREAMS
    assert Counter(one.item.stream for one in offer.evicted).most_common()[-1][1] == 2  # of each as much as of others
    assert looked < 10 * STREAMS


def test_a_stream_too_many_drives_nobody_out() -> None:
    lane = Lane(4, "drop-oldest", per="stream")
    for number in range(STREAMS):
        lane.offer(ticket(stream=str(number)))
    assert lane.offer(ticket(stream="one too many")).admission is Admission.REFUSED
    assert len(lane) == STREAMS


def test_latest_leaves_the_newest_of_each_stream_in_the_place_of_the_first() -> None:
    lane = Lane(8, "latest")
    send(lane, "a1", "b1", source=Source.MQTT_QOS1)
    offer = lane.offer(ticket(Source.MQTT_QOS1, name="a2", stream="a"))
    assert (offer.admission, names(list(offer.evicted))) == (Admission.TAKEN, ["a1"])
    assert names(lane.take(9)) == ["a2", "b1"]


def test_latest_never_replaces_what_somebody_waits_for() -> None:
    lane = Lane(2, "latest")
    taken, refused = Admission.TAKEN, Admission.REFUSED
    assert [lane.offer(ticket(name=name)).admission for name in "123"] == [taken, taken, refused]
    assert names(lane.take(9)) == ["1", "2"]


def test_latest_takes_no_more_bytes_than_there_are() -> None:
    lane = Lane(8, "latest")
    lane.offer(ticket(name="a1", stream="a", size=1))
    lane.offer(ticket(name="b1", stream="b", size=BYTES - 1))
    assert lane.offer(ticket(name="a2", stream="a", size=2)).admission is Admission.REFUSED
    assert names(lane.take(1)) == ["a1"]


def test_a_deadline_takes_tickets_of_any_stream_out() -> None:
    lane = Lane(8, per="stream")
    for name, at in (("a1", 1.0), ("b1", 9.0), ("a2", 9.0), ("c1", 1.0)):
        lane.offer(ticket(name=name, stream=name[0], deadline_s=at))
    assert sorted(names(lane.expire(2.0))) == ["a1", "c1"]
    assert len(lane) == 2
    assert names(lane.take(9)) == ["a2", "b1"]


SOURCES = st.sampled_from(list(Source))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abcdefgh"), SOURCES, st.sampled_from([0, 1, 2000, 40_000, BYTES // 3])),
        st.integers(1, 6),
    ),
    max_size=80,
)
OVERFLOWS = st.sampled_from([None, "reject", "drop-oldest", "drop-newest", "block", "latest"])


@given(STEPS, OVERFLOWS, st.sampled_from(["model", "stream"]), st.integers(1, 5))
def test_every_input_has_one_fate_and_nothing_is_unbounded(
    steps: list[Any], overflow: Any, per: Any, size: int
) -> None:
    lane = Lane(size, overflow, per)
    waiting: list[Ticket] = []  # as it came
    for number, step in enumerate(steps):
        if isinstance(step, int):
            batch = lane.take(step)
            assert set(batch) <= set(waiting)
            for stream in {one.item.stream for one in batch}:
                mine = [one for one in waiting if one.item.stream == stream]
                taken = [one for one in batch if one.item.stream == stream]
                assert taken == mine[: len(taken)]  # results of a topic leave in the order of its inputs
            waiting = [one for one in waiting if one not in batch]
        else:
            stream, source, bytes_ = step
            new = ticket(source, name=str(number), size=bytes_, stream=stream)
            offer = lane.offer(new)
            assert set(offer.evicted) <= set(waiting)
            assert offer.admission is Admission.TAKEN or not offer.evicted
            waiting = [one for one in waiting if one not in offer.evicted]
            if offer.admission is Admission.TAKEN:
                waiting.append(new)
        streams = Counter(one.item.stream for one in waiting)
        assert sorted(names(list(lane._waiting))) == sorted(names(waiting))
        assert len(lane) == len(waiting)
        assert lane._waiting.bytes == sum(len(one.item.payload) for one in waiting)
        assert len(waiting) <= 1 or lane._waiting.bytes <= BYTES
        assert max(streams.values(), default=0) <= (1 if overflow == "latest" else size)
        assert per == "stream" or len(waiting) <= size


@given(st.lists(st.sampled_from("aaaaab"), min_size=1, max_size=60), st.integers(1, 4))
def test_no_stream_waits_longer_than_one_turn_of_the_others(streams: list[str], most: int) -> None:
    lane = Lane(64, per="stream")
    send(lane, *streams)
    served = "".join(one.item.stream for _ in range(len(streams)) for one in lane.take(most))
    assert sorted(served) == sorted(streams)
    both = 2 * min(streams.count("a"), streams.count("b"))
    assert all({served[at], served[at + 1]} == {"a", "b"} for at in range(0, both, 2))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 8))
def test_what_comes_back_keeps_the_order_of_its_stream(streams: list[str], most: int) -> None:
    lane = Lane(64, per="stream")
    for number, stream in enumerate(streams):
        lane.offer(ticket(name=f"{number:02d}", stream=stream))
    lane.put_back(lane.take(most))
    served = [one for _ in streams for one in lane.take(1)]
    for stream in "abc":
        mine = [one.item.id for one in served if one.item.stream == stream]
        assert mine == sorted(mine)
    assert len(served) == len(streams)


def test_a_request_that_should_have_begun_is_late_only_while_it_waits() -> None:
    lane = Lane(9)
    first, second = ticket(name="a", start_by_s=1.0, deadline_s=5.0), ticket(name="b", start_by_s=1.0, deadline_s=5.0)
    for one in (first, second):
        lane.offer(one)
    lane.take(1)
    assert lane.next_deadline_s() == 1.0
    assert lane.expire(1.0) == [second]
    second.settle()
    assert lane.next_deadline_s() == 5.0  # of the one that runs
    assert lane.expire(4.9) == []
    assert lane.expire(5.0) == [first]


def test_one_that_has_begun_and_has_no_deadline_is_never_late() -> None:
    lane = Lane(9)
    lane.offer(ticket(start_by_s=1.0))
    lane.take(1)
    assert lane.expire(2.0) == []
    assert lane.next_deadline_s() is None


def test_priorities_order_what_waits() -> None:
    """1 first, then those that say nothing as 2, then the others; in each in the order they came."""
    lane = Lane(99)
    for name, priority in (("a", 0), ("b", 3), ("c", 1), ("d", 2), ("e", 1), ("f", 0)):
        lane.offer(ticket(name=name, priority=priority))
    assert names(list(lane)) == ["c", "e", "a", "d", "f", "b"]
    assert names(lane.take(3)) == ["c", "e", "a"]
    assert names(lane.take(9)) == ["d", "f", "b"]
    assert lane.take(9) == []


def test_what_is_put_back_goes_before_the_others_of_its_priority() -> None:
    lane = Lane(99)
    for name, priority in (("a", 0), ("b", 1), ("c", 1)):
        lane.offer(ticket(name=name, priority=priority))
    batch = lane.take(1)
    lane.offer(ticket(name="d", priority=1))
    lane.put_back(batch)
    assert names(lane.take(9)) == ["b", "c", "d", "a"]


def test_no_priority_starves_another() -> None:
    lane = Lane(10_000)
    for level in (0, 1, 3):
        lane.offer(ticket(name=f"low{level}", priority=level))
    for index in range(200):
        lane.offer(ticket(name=f"{index}", priority=1))
    order = names(lane.take(200))
    assert order.index("low0") <= 2 * PASSED
    assert order.index("low3") <= 2 * PASSED + 2


def test_priorities_survive_other_settings_and_expire() -> None:
    lane = Lane(9)
    late, other = ticket(name="late", priority=1, deadline_s=1.0), ticket(name="other")
    lane.offer(other)
    lane.offer(late)
    lane = lane.adopted(5, None, "model")
    assert names(list(lane)) == ["late", "other"]
    assert lane.expire(1.0) == [late]
    assert names(lane.take(9)) == ["other"]


def test_where_streams_take_turns_priorities_change_nothing() -> None:
    lane = Lane(9, per="stream")
    for name, stream, priority in (("a", "x", 0), ("b", "x", 1), ("c", "y", 1)):
        lane.offer(ticket(name=name, stream=stream, priority=priority))
    assert names(lane.take(9)) == ["a", "c", "b"]


@given(st.lists(st.tuples(st.integers(0, 10), st.sampled_from(["offer", "offer", "take", "back"])), max_size=60))
def test_whatever_the_priorities_each_input_leaves_once(steps: list[tuple[int, str]]) -> None:
    lane, seen, offered = Lane(8, "drop-oldest"), Counter[str](), 0
    for number, (value, step) in enumerate(steps):
        if step == "offer":
            offered += 1
            one = ticket(Source.MQTT_QOS0, name=str(number), priority=value, size=value + 1)
            for evicted in lane.offer(one).evicted:
                seen[evicted.item.id] += 1
        elif step == "back":
            lane.put_back(lane.take(value))
        elif step == "take":
            seen.update(names(lane.take(value)))
        assert len(lane) == len(list(lane)) <= 8
        assert lane._waiting.bytes == sum(len(one.item.payload) for one in lane)
    seen.update(names(lane.drain()))
    assert len(lane) == 0
    assert set(seen.values()) <= {1}
    assert sum(seen.values()) == offered
