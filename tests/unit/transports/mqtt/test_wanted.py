"""What the connection of pushes listens to, and the way from one set of topics to the next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.schema import Model
from edged.delivery.documents import CHUNK_MAX
from edged.topics import Tree
from edged.transports.mqtt.desk import DOCUMENT_MOST
from edged.transports.mqtt.wanted import AT_ONCE, Wanted, step

TREE = Tree("edged", "press-07")
_TOPICS = [f"edged/ota/blob/{name}" for name in "abcdefghijklmnopqrstuvwxyz"]
_SETS = st.lists(st.frozensets(st.sampled_from(_TOPICS)), min_size=1, max_size=12)


@given(_SETS, st.data())
def test_the_broker_ends_with_what_is_wanted_however_seldom_the_thread_looks(
    sets: list[frozenset[str]], data: st.DataObject
) -> None:
    wanted = asked = Wanted().serving(TREE, [Model("digits")])
    subscribed: set[str] = set()
    brought: set[str] = set()  # retained messages since they were asked for
    for number, topics in enumerate(sets, 1):
        brought -= set(wanted.documents) - topics | topics - set(wanted.documents)
        wanted = wanted.listening(topics, number)
        if data.draw(st.booleans()) or number == len(sets):
            steps, asked = step(asked, wanted), wanted
            for batch in steps.gone:
                assert 0 < len(batch) <= AT_ONCE
                subscribed -= set(batch)
            for batch in steps.documents:
                assert 0 < len(batch) <= AT_ONCE
                assert not subscribed & set(batch)  # or the broker would not say again what it has
                subscribed |= set(batch)
                brought |= set(batch)
            assert steps.pushes == []
            assert subscribed == topics == brought


def test_a_new_connection_asks_for_everything() -> None:
    wanted = Wanted().serving(TREE, [Model("digits")]).listening(frozenset(_TOPICS), 7)
    steps = step(Wanted(), wanted)
    assert steps.gone == []
    assert steps.pushes == [["edged/press-07/models/digits/push"]]
    assert [len(batch) for batch in steps.documents] == [8, 8, 8, 2]


def test_models_come_and_go_apart_from_documents() -> None:
    before = Wanted().serving(TREE, [Model("a"), Model("b")]).listening({"edged/ota/want/a/all"}, 1)
    steps = step(before, before.serving(TREE, [Model("b"), Model("c")]))
    assert (steps.gone, steps.pushes, steps.documents) == ([[TREE.push("a")]], [[TREE.push("c")]], [])


def test_what_came_is_matched_with_wildcards_too() -> None:
    wanted = Wanted().listening({"edged/ota/want/+/all", "edged/ota/trust/2"}, 1)
    assert wanted.document("edged/ota/want/digits/all")
    assert wanted.document("edged/ota/trust/2")
    assert not wanted.document("edged/ota/want/digits/group/a")
    assert not wanted.document("edged/ota/trust/3")
    for wrong in ("", "a/#/b", "a+"):
        with pytest.raises(ValueError):
            wanted.listening({wrong}, 2)


def test_the_largest_chunk_fits() -> None:
    assert DOCUMENT_MOST == CHUNK_MAX
