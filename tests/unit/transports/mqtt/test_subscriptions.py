"""What is subscribed to, in which order, and what happens when the broker does not like it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edged.topics import TopicFilter
from edged.transports.mqtt.subscriptions import Subscription, Subscriptions, covers, overlap, plan

_LEVELS = st.sampled_from(["a", "b", "", "+"])
_TOPICS = st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=4).map("/".join).filter(bool)


@st.composite
def _filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(_LEVELS, min_size=0, max_size=3)) + draw(st.sampled_from([[], ["#"]]))
    return "/".join(levels) or "+"


@given(_filters(), _filters(), _TOPICS)
def test_covers_and_overlap_agree_with_matching(one: str, other: str, topic: str) -> None:
    mine = TopicFilter.parse(one).match(topic) is not None
    theirs = TopicFilter.parse(other).match(topic) is not None
    if covers(one, other) and theirs:
        assert mine
    if mine and theirs:
        assert overlap(one, other)
    if covers(one, other):
        assert overlap(one, other)


def test_covers_knows_the_corners() -> None:
    assert covers("a/#", "a")
    assert covers("#", "+/a")
    assert not covers("+/#", "#")
    assert not covers("+", "$SYS")
    assert not covers("a/+", "a/#")
    assert not overlap("a/b", "a/c")
    assert not overlap("a", "a/b")
    assert overlap("a/#", "a")


def test_a_wider_filter_takes_the_place_of_narrower_ones() -> None:
    own = ["edged/box/models/m/infer", "edged/box/models/m/infer/+"]
    found = plan(own, [("cells/7/scan", 1), ("cells/#", 0), ("other", 0)])
    assert [(one.filter, one.qos) for one in found[2:]] == [("cells/#", 1), ("other", 0)]
    assert all(one.identifier == 0 for one in found)


def test_partly_overlapping_filters_get_identifiers() -> None:
    found = plan(["own"], [("a/+", 1), ("+/b", 1), ("c", 1)])
    assert [one.identifier for one in found] == [0, 2, 3, 0]
    assert plan(["own"], [("#", 1)])[0].identifier == 1


def test_own_first_and_foreign_ones_alone() -> None:
    own = [Subscription(f"own{index}", 1) for index in range(10)]
    foreign = [Subscription("f", 0), Subscription("g", 1)]
    subscriptions = Subscriptions(own, foreign)
    subscriptions.begin()
    batches = []
    while (batch := subscriptions.next()) is not None:
        assert subscriptions.next() is None  # until the answer
        assert not subscriptions.done
        batches.append([one.filter for one in batch])
        subscriptions.answered([True] * len(batch))
    assert [len(batch) for batch in batches] == [8, 2, 1, 1]
    assert batches[2:] == [["f"], ["g"]]
    assert subscriptions.done


def test_two_losses_over_a_filter_leave_it_out_for_a_while() -> None:
    now = 0.0
    bad = Subscription("bad", 1)
    subscriptions = Subscriptions([], [bad, Subscription("good", 1)], lambda: now)
    for expected in ([], ["bad"]):
        subscriptions.begin()
        assert subscriptions.next() == (bad,)
        assert subscriptions.lost() == expected
    assert list(subscriptions.quarantined) == ["bad"]
    subscriptions.begin()
    batch = subscriptions.next()
    assert batch is not None
    assert batch[0].filter == "good"
    subscriptions.answered([True])
    assert subscriptions.next() is None
    now = 601.0
    assert subscriptions.next() == (bad,)
    assert subscriptions.answered([False]) == ["bad"]
    assert list(subscriptions.quarantined) == []
    assert subscriptions.refused == {"bad"}


def test_an_answer_in_between_clears_the_suspicion() -> None:
    subscriptions = Subscriptions([], [Subscription("f", 1)])
    for _ in range(3):
        subscriptions.begin()
        subscriptions.next()
        subscriptions.lost()
        subscriptions.begin()
        subscriptions.next()
        subscriptions.answered([True])
        assert subscriptions.lost() == []
    assert list(subscriptions.quarantined) == []


def test_own_topics_are_never_left_out() -> None:
    subscriptions = Subscriptions([Subscription("own", 1)], [])
    told = []
    for _ in range(5):
        subscriptions.begin()
        assert subscriptions.next() is not None
        told.append(subscriptions.lost())
    assert told == [[], ["own"], [], [], []]


def test_a_shared_filter_covers_only_its_own_group_and_is_told_apart_from_copies_of_others() -> None:
    assert covers("$share/g/a/#", "$share/g/a/b")
    assert not covers("$share/g/a/#", "$share/h/a/b")
    assert not covers("$share/g/a/#", "a/b")
    assert not covers("a/#", "$share/g/a/b")
    assert overlap("$share/g/a/#", "a/b")
    assert not overlap("$share/g/a/#", "b")
    found = plan([], [("$share/g/a/b", 1), ("a/+", 1), ("$share/g/c", 1)])
    assert [one.filter for one in found] == ["$share/g/a/b", "a/+", "$share/g/c"]
    assert len({one.identifier for one in found[:2]} - {0}) == 2
    assert found[2].identifier == 0


def test_a_broker_that_shares_nothing_is_not_asked_for_it() -> None:
    shared, plain = Subscription("$share/g/a", 1), Subscription("b", 1)
    subscriptions = Subscriptions([], [shared, plain])
    subscriptions.begin(shares=False)
    assert subscriptions.next() == (plain,)
    subscriptions.answered([True])
    assert subscriptions.done
    assert subscriptions.refused == {"$share/g/a"}
    subscriptions.adopt([], [shared, plain, Subscription("$share/g/c", 1)])
    assert subscriptions.next() is None
    assert subscriptions.refused == {"$share/g/a", "$share/g/c"}
    subscriptions.begin()  # another broker
    assert subscriptions.next() == (shared,)
    assert subscriptions.refused == set()


def test_what_is_wanted_no_more_is_let_go_once_a_connection() -> None:
    a, b, c = (Subscription(name, 1) for name in "abc")
    subscriptions = Subscriptions([], [a, b])
    subscriptions.begin()
    assert subscriptions.gone() == []
    subscriptions.adopt([], [b, c])
    assert (subscriptions.gone(), subscriptions.gone()) == ([("a",)], [])
    subscriptions.had(["x", "b"])  # b is wanted
    subscriptions.begin(kept=True)
    assert subscriptions.gone() == [("a", "x")]
    subscriptions.begin()
    assert subscriptions.gone() == []
    subscriptions.adopt([], [a])
    subscriptions.begin(kept=True)
    (gone,) = subscriptions.gone()
    assert set(gone) == {"x", "b", "c"}
