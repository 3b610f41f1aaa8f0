"""Who is online under our name: what each message on our own topics says about it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.topics import Tree
from edged.transports.mqtt.namesake import GONE_S, Machine, Namesake, filters, models, other

TREE = Tree("edged", "press-07")
OWN = Machine("ours", "here")
PATIENCE_S = 20.0  # 5 and one and a half of the usual interval


class Look:
    """A Namesake at 100 s, and short words for what it hears."""

    def __init__(self) -> None:
        self.namesake = Namesake(TREE, OWN, 100)

    def status(self, payload: bytes, at_s: float = 100, *, retained: bool = True) -> None:
        self.namesake.heard(TREE.status, payload, retained=retained, now_s=at_s)

    def info(self, at_s: float = 100, **members: object) -> None:
        self.namesake.heard(TREE.info, msgspec.json.encode(members), retained=True, now_s=at_s)

    def sign(self, at_s: float) -> None:
        self.namesake.heard(TREE.telemetry, b"{}", retained=False, now_s=at_s)

    def there(self, at_s: float = 100) -> bool:
        return self.namesake.there(at_s)


@pytest.fixture
def look() -> Look:
    return Look()


def test_a_name_that_the_broker_does_not_know_is_free(look: Look) -> None:
    assert not look.there()
    assert not look.namesake.known


@pytest.mark.parametrize("payload", [b"offline", b"", b"Online", b"\xff"])
def test_whoever_is_not_online_is_not_there(look: Look, payload: bytes) -> None:
    look.status(payload)
    look.info(instance="theirs", host="there")
    assert not look.there()
    assert look.namesake.known


def test_half_of_what_the_broker_remembers_is_not_all(look: Look) -> None:
    look.status(b"online")
    assert not look.namesake.known


def test_the_same_machine_started_again_does_not_wait_for_itself(look: Look) -> None:
    """After kill -9, or a power cut, `online` is still retained."""
    look.status(b"online")
    look.info(instance="ours")
    assert not look.there()


def test_another_machine_is_believed_for_a_while_and_longer_with_a_sign_of_life(look: Look) -> None:
    look.status(b"online")
    look.info(instance="theirs", host="there")
    assert look.there(100 + PATIENCE_S - 1)
    look.sign(110)
    assert look.there(110 + PATIENCE_S - 1)
    assert not look.there(110 + PATIENCE_S)
    assert look.namesake.seen.shown == "there"


def test_patience_is_measured_by_how_often_it_says_that_it_speaks(look: Look) -> None:
    look.status(b"online")
    look.info(instance="theirs", telemetry_interval_s=60)
    assert look.there(194)
    assert not look.there(195)


def test_the_order_of_the_retained_messages_does_not_matter(look: Look) -> None:
    look.info(instance="ours")
    look.status(b"online")
    assert not look.there()


def test_one_that_was_waited_for_is_gone_after_a_moment_and_not_when_it_starts_again(look: Look) -> None:
    look.status(b"online")
    look.info(instance="theirs")
    assert look.there(101)
    look.status(b"offline", 102, retained=False)
    assert look.there(102 + GONE_S - 0.1)
    look.status(b"online", 104, retained=False)
    assert look.there(104 + GONE_S + 1)
    look.status(b"offline", 120, retained=False)
    assert not look.there(120 + GONE_S)


def test_an_older_version_says_nothing_of_itself_and_is_waited_for(look: Look) -> None:
    look.status(b"online")
    look.info(edged="0.1.0", device="press-07")
    assert look.there(101)
    assert look.namesake.seen.shown == "another machine"


def test_a_hosts_name_is_text_from_elsewhere() -> None:
    seen = other(msgspec.json.encode({"host": "a\x1b[2J\nb" + "c" * 100}))
    assert seen.shown == "a[2Jb" + "c" * 57


def test_what_a_box_listened_to_is_text_from_elsewhere_too() -> None:
    said = ["cells/+/scan", "#", "$share/line-2/a/#", "cells/+cell", "a/#/b", "", "$share/a", "$share/+/a", "a" * 9000]
    assert filters(msgspec.json.encode({"subscriptions": said})) == {"cells/+/scan", "#", "$share/line-2/a/#"}
    for other_form in (b"", b"[]", b"\xff", b'{"subscriptions":[7]}', b'{"subscriptions":{}}', b"{}"):
        assert filters(other_form) == frozenset()


def test_the_models_that_a_box_had_are_text_from_elsewhere_too() -> None:
    named = [{"name": "digits", "state": "serving"}, {"name": "a/b"}, {}, {"name": "+"}]
    assert models(msgspec.json.encode({"models": named})) == {"digits"}
    for other_form in (b"", b"[]", b"\xff", b'{"models":[7]}', b'{"models":{}}'):
        assert models(other_form) == frozenset()


@given(
    st.binary() | st.builds(msgspec.json.encode, st.dictionaries(st.sampled_from(["instance", "host"]), st.integers()))
)
def test_no_info_does_anything_but_tell(payload: bytes) -> None:
    namesake = Namesake(TREE, OWN, 0)
    namesake.heard(TREE.info, payload, retained=True, now_s=0)
    namesake.heard(TREE.status, b"online", retained=True, now_s=0)
    assert namesake.there(1)
