"""Which broker is next: the order of mqtt.url, and the way back to the first."""

from __future__ import annotations

import pytest

from edged.config.addresses import Broker
from edged.transports.mqtt.brokers import LOOK_S, Brokers

A, B, C = (Broker(name, 1883, tls=False) for name in "abc")


@pytest.fixture
def brokers() -> Brokers:
    return Brokers((A, B, C), "auto")


def test_a_failed_attempt_goes_on_at_once_and_pauses_after_the_last(brokers: Brokers) -> None:
    tried = []
    for _ in range(6):
        at = brokers.current
        tried.append((at, brokers.failed()))
    assert tried == [(A, True), (B, True), (C, False)] * 2


def test_one_broker_alone_is_tried_after_a_pause() -> None:
    alone = Brokers((A,), "auto")
    assert not alone.failed()
    assert (alone.current, alone.better) == (A, ())


def test_after_a_good_connection_the_list_begins_anew(brokers: Brokers) -> None:
    brokers.failed()
    brokers.failed()
    assert (brokers.current, brokers.better) == (C, (A, B))
    brokers.lost()
    assert (brokers.current, brokers.better) == (A, ())


def test_each_keeps_the_version_that_it_speaks(brokers: Brokers) -> None:
    first = brokers.versions
    brokers.failed()
    assert brokers.versions is not first
    brokers.lost()
    assert brokers.versions is first


def test_a_way_back_in_vain_is_tried_half_as_often(brokers: Brokers) -> None:
    waits = []
    for _ in range(9):
        brokers.failed()  # to B, which serves
        waits.append(brokers.look_s)
        brokers.go_back(A)
        assert brokers.current == A
        assert brokers.failed()  # A did not take us after all: B at once
        brokers.lost()
    assert waits[:4] == [LOOK_S, 2 * LOOK_S, 4 * LOOK_S, 8 * LOOK_S]
    assert waits[-1] == 3600


def test_a_way_back_that_held_is_no_reason_to_wait(brokers: Brokers) -> None:
    for way_back_held in (False, True):
        brokers.failed()
        brokers.go_back(A)
        if not way_back_held:
            brokers.failed()
            brokers.lost()
    assert brokers.look_s == 2 * LOOK_S
    brokers.lost()  # A's own connection, after a good while
    assert brokers.look_s == LOOK_S
