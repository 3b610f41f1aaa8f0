"""What leaves at QoS 1: order, bounds, the window, and messages that the broker will not have."""

from __future__ import annotations

import functools

from hypothesis import given
from hypothesis import strategies as st

from edged.transports.mqtt.ends import End
from edged.transports.mqtt.outbox import MAX_PACKET, Outbox, Publication


class Bench:
    """An outbox with a clock, what it dropped, and a broker that counts packet identifiers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.dropped: list[str] = []
        self.outbox = Outbox(self.dropped.append, last="status", clock=lambda: self.now)
        self.mid = 0

    def send(self) -> list[tuple[int, Publication]]:
        sent = []
        while (message := self.outbox.next()) is not None:
            self.mid += 1
            self.outbox.sent(self.mid, message)
            sent.append((self.mid, message))
        return sent

    def topics(self) -> list[str]:
        return [message.topic for _, message in self.send()]


def test_states_go_first_and_online_last_at_each_connect() -> None:
    bench = Bench()
    bench.outbox.retain("status", b"online")
    bench.outbox.retain("info", b"old")
    bench.outbox.retain("info", b"new")
    bench.outbox.put(Publication("result", b"1", 1))
    assert bench.topics() == []  # no connection
    bench.outbox.opened(100, MAX_PACKET)
    sent = bench.send()
    assert [(one.topic, one.payload, one.retain) for _, one in sent] == [
        ("info", b"new", True),
        ("status", b"online", True),
        ("result", b"1", False),
    ]
    for mid, _ in sent:
        bench.outbox.confirmed(mid)
    assert len(bench.outbox) == 0
    bench.outbox.lost()
    bench.outbox.opened(100, MAX_PACKET)
    assert bench.topics() == ["info", "status"]


@given(st.data())
def test_results_keep_their_order_through_losses(data: st.DataObject) -> None:
    """Every result is confirmed at least once, and first confirmations come in order."""
    bench = Bench()
    confirmed: list[int] = []
    flight: list[tuple[int, Publication]] = []
    put = 0
    bench.outbox.opened(8, MAX_PACKET)
    for _ in range(data.draw(st.integers(1, 30))):
        match data.draw(st.sampled_from(["put", "confirm", "lose"])):
            case "put":
                bench.outbox.put(Publication("result", str(put).encode(), 1))
                put += 1
            case "confirm" if flight:
                mid, message = flight.pop(0)
                bench.outbox.confirmed(mid)
                confirmed.append(int(message.payload))
            case "lose":
                bench.outbox.lost()
                flight = []
                bench.outbox.opened(8, MAX_PACKET)
        flight += bench.send()
        assert len(flight) <= 8
    while flight:
        mid, message = flight.pop(0)
        bench.outbox.confirmed(mid)
        confirmed.append(int(message.payload))
        flight += bench.send()
    assert confirmed == list(range(put))
    assert bench.dropped == []


def test_bounds_drop_the_oldest_and_tell_its_sender() -> None:
    bench, handed = Bench(), []
    for number in range(32 * 1024 + 4):  # of 1 KiB each, with a topic of this length
        bench.outbox.put(Publication(f"{number:016}", b"", 1, handed=lambda number=number: handed.append(number)))  # type: ignore[misc]
    assert bench.dropped == ["outbox_full"] * 4
    assert handed == [0, 1, 2, 3]
    large = Bench()
    for number in range(5):
        large.outbox.put(Publication(str(number), b"x" * 10 * 2**20, 1))
    assert large.dropped == ["outbox_full"] * 2
    large.outbox.put(Publication("huge", b"x" * 40 * 2**20, 1))
    large.outbox.opened(10, MAX_PACKET)
    assert large.topics() == ["huge"]


def test_what_the_sender_chose_for_its_answer_counts() -> None:
    bench = Bench()
    bench.outbox.opened(1, MAX_PACKET)
    for number in range(1000):
        bench.outbox.put(Publication(str(number), b"{}", 1, correlation=b"c" * 60_000))
    assert len(bench.outbox) == 550  # 32 MiB
    bench.send()
    _lose(bench)  # it comes back, and is counted as it was
    while sent := bench.send():
        for mid, _ in sent:
            bench.outbox.confirmed(mid)
    for _ in range(200):
        bench.outbox.put(Publication("t" * 60_000, b"{}", 1))
    assert len(bench.outbox) == 139  # four bytes a character, at most


def test_the_brokers_limits_are_kept() -> None:
    bench = Bench()
    bench.outbox.opened(2, 1000)
    for size in (10, 2000, 10, 10):
        bench.outbox.put(Publication("r", b"x" * size, 1))
    assert len(bench.send()) == 2
    assert bench.dropped == ["output_too_large"]
    bench.outbox.confirmed(1)
    assert len(bench.send()) == 1
    bench.outbox.confirmed(77)  # not ours


def _lose(bench: Bench, end: End = End.CLOSED) -> None:
    bench.outbox.lost(end)
    bench.outbox.opened(64, MAX_PACKET)


def test_a_message_that_ends_three_connections_alone_teaches_the_size() -> None:
    bench = Bench()
    bench.outbox.retain("status", b"online")
    bench.outbox.opened(64, MAX_PACKET)
    for payload in (b"a", b"x" * 100_000, b"b"):
        bench.outbox.put(Publication("r", payload, 1))
    assert len(bench.send()) == 4
    for _ in range(3):
        _lose(bench)
        for _ in range(2):  # the state, then "a": one at a time
            sent = bench.send()
            assert len(sent) == 1
            if len(sent[0][1].payload) < 100_000:
                bench.outbox.confirmed(sent[0][0])
            else:
                break
        if len(sent[0][1].payload) < 100_000:
            (sent,) = [bench.send()]
        assert len(sent[0][1].payload) == 100_000
    assert bench.dropped == []
    _lose(bench)
    assert bench.dropped == ["refused_by_broker"]
    assert 100_000 <= bench.outbox.packet_limit < 100_200
    rest = []
    while sent := bench.send():
        bench.outbox.confirmed(sent[0][0])
        rest += [one.payload for _, one in sent]
    assert rest == [b"online", b"b"]
    bench.outbox.put(Publication("r", b"x" * 100_001, 1))
    assert bench.send() == []
    assert bench.dropped == ["refused_by_broker", "output_too_large"]


def test_a_small_one_teaches_the_topic_for_a_minute() -> None:
    bench = Bench()
    bench.outbox.opened(64, MAX_PACKET)
    bench.outbox.put(Publication("forbidden", b"x", 1))
    for _ in range(7):
        bench.send()
        _lose(bench)
    assert bench.dropped == ["refused_by_broker"]
    bench.outbox.put(Publication("forbidden", b"y", 1))
    bench.outbox.put(Publication("fine", b"y", 1))
    assert bench.topics() == ["fine"]
    bench.now = 61.0
    bench.outbox.put(Publication("forbidden", b"z", 1))
    bench.outbox.confirmed(bench.mid)
    assert bench.topics() == ["forbidden"]


def test_a_topic_that_goes_on_ending_connections_is_left_out_for_longer_each_time() -> None:
    """Not each minute again, for ever, while the other results wait."""
    bench = Bench()
    bench.outbox.opened(64, MAX_PACKET)
    losses, refused_s = 0, []
    while bench.now < 4 * 3600:
        bench.outbox.put(Publication("forbidden", b"x", 1, refused=lambda *_: refused_s.append(bench.now)))
        while bench.send():
            _lose(bench)
            losses += 1
        bench.now += 10
    assert losses < 7 + 2 * 10
    assert len(refused_s) == 4 * 360  # each message is told of


def test_a_topic_that_is_taken_again_is_forgiven() -> None:
    bench = Bench()
    bench.outbox.opened(64, MAX_PACKET)
    bench.outbox.put(Publication("forbidden", b"x", 1))
    for _ in range(7):
        bench.send()
        _lose(bench)
    bench.now = 61.0
    bench.outbox.put(Publication("forbidden", b"x", 1))
    ((mid, _),) = bench.send()
    bench.outbox.confirmed(mid)
    bench.outbox.put(Publication("forbidden", b"x", 1))
    for _ in range(6):
        bench.send()
        _lose(bench)
    assert bench.dropped == ["refused_by_broker"]
    assert bench.topics() == ["forbidden"]


def test_whoever_made_a_message_is_told_that_the_broker_does_not_take_it() -> None:
    bench = Bench()
    told: list[tuple[str, str]] = []
    bench.outbox.opened(64, 1000)
    for size in (10, 2000, 10):
        bench.outbox.put(Publication("r", b"x" * size, 1, refused=lambda code, why: told.append((code, why))))
    first, second = (mid for mid, _ in bench.send())
    bench.outbox.confirmed(first, "not authorized")
    bench.outbox.confirmed(second)
    assert told == [("output_too_large", ""), ("refused_by_broker", "not authorized")]
    assert bench.dropped == []  # it counts
    assert not len(bench.outbox)


def test_a_forbidden_state_does_not_end_every_connection() -> None:
    bench = Bench()
    bench.outbox.retain("forbidden", b"x")
    bench.outbox.retain("status", b"online")
    for _ in range(8):
        bench.outbox.opened(64, MAX_PACKET)
        topics = bench.topics()
        if topics == ["status"]:
            break
        assert topics[0] == "forbidden"
        bench.outbox.lost(End.CLOSED)
    else:
        raise AssertionError("it never gave up")


def test_handed_is_called_once() -> None:
    bench, handed = Bench(), []
    bench.outbox.opened(64, MAX_PACKET)
    bench.outbox.put(Publication("r", b"x", 1, handed=lambda: handed.append(1)))
    bench.send()
    _lose(bench)
    bench.send()
    assert handed == [1]


def test_what_has_expired_is_never_sent() -> None:
    bench = Bench()
    handed: list[str] = []
    for name, expires_s in (("early", 5.0), ("late", 9.0), ("never", None)):
        message = Publication(name, b"", 1, handed=functools.partial(handed.append, name), expires_s=expires_s)
        bench.outbox.put(message)
    bench.now = 5.0
    bench.outbox.opened(100, MAX_PACKET)
    assert bench.topics() == ["late", "never"]
    assert (bench.dropped, handed) == (["expired"], ["early", "late", "never"])
    bench.now = 9.0  # neither was confirmed
    bench.outbox.lost()
    bench.outbox.opened(100, MAX_PACKET)
    assert bench.topics() == ["never"]
    assert bench.dropped == ["expired"] * 2


def _alone(bench: Bench) -> None:
    """`status` is confirmed, the one message that waits is sent."""
    for mid, message in bench.send():
        if message.topic == "status":
            bench.outbox.confirmed(mid)
    bench.send()


def _waiting(*, state: bool = True) -> Bench:
    bench = Bench()
    if state:
        bench.outbox.retain("status", b"online")
    bench.outbox.opened(64, MAX_PACKET)
    bench.outbox.put(Publication("r", b"x", 1))
    _alone(bench)
    _lose(bench)
    return bench


def test_a_link_that_fails_again_and_again_makes_no_message_poison() -> None:
    """The broker fell silent, or the network was gone; or it closed, but long after it had the message."""
    bench = _waiting()
    for number in range(20):
        _alone(bench)
        bench.now += 60.0 if number % 2 else 0.0
        _lose(bench, End.CLOSED if number % 2 else End.AWAY)
    assert bench.dropped == []
    _alone(bench)
    bench.outbox.confirmed(bench.mid)
    assert not len(bench.outbox)


def test_it_takes_three_losses_where_others_were_confirmed_and_six_where_none_was() -> None:
    for state, losses in ((True, 3), (False, 6)):
        bench = _waiting(state=state)
        for number in range(losses):
            assert bench.dropped == [], number
            _alone(bench)
            _lose(bench)
        assert bench.dropped == ["refused_by_broker"]


def test_one_word_of_the_broker_is_enough() -> None:
    bench = _waiting()
    _alone(bench)
    _lose(bench, End.NAMED)
    assert bench.dropped == ["refused_by_broker"]


def test_what_is_confirmed_in_the_end_is_not_guilty_of_anything() -> None:
    bench = Bench()
    bench.outbox.retain("status", b"online")
    for _ in range(20):
        bench.outbox.opened(64, MAX_PACKET)
        for _ in range(2):
            bench.send()
            bench.outbox.lost(End.CLOSED)
            bench.outbox.opened(64, MAX_PACKET)
        for mid, _ in bench.send():
            bench.outbox.confirmed(mid)
        bench.outbox.lost(End.CLOSED)
    assert bench.dropped == []


def test_a_large_one_has_the_time_that_it_takes() -> None:
    bench = Bench()
    bench.outbox.retain("status", b"online")
    bench.outbox.opened(64, MAX_PACKET)
    bench.outbox.put(Publication("r", b"x" * 2**20, 1))
    for _ in range(4):
        _alone(bench)
        bench.now += 60.0
        _lose(bench)
    assert bench.dropped == ["refused_by_broker"]
