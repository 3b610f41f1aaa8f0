"""topics: filters against a slow and obvious reference, named levels, output templates, edged's own tree."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edged.topics import TopicFilter, Tree, check_topic, fill, is_name, template_names

level = st.sampled_from(["a", "b", "", "$SYS", "$", "a.b", "ä", "a\n", "(", "."])
topics = st.lists(level, min_size=1, max_size=4).map("/".join).filter(bool)
filters = (
    st.tuples(st.lists(st.one_of(level, st.just("+")), max_size=4), st.sampled_from([[], ["#"]]))
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(bool)
)


def matches(pattern: list[str], topic: list[str]) -> bool:
    """MQTT 5, 4.7, level by level."""
    if not pattern:
        return not topic
    if pattern[0] == "#":
        return True
    if not topic:
        return False
    return pattern[0] in ("+", topic[0]) and matches(pattern[1:], topic[1:])


def reference(pattern: str, topic: str) -> bool:
    if topic.startswith("$") and pattern[0] in "+#":  # 4.7.2
        return False
    return matches(pattern.split("/"), topic.split("/"))


@given(filters, topics)
@example("a/#", "a")
@example("#", "$SYS/uptime")
@example("+/b", "$SYS/b")
@example("$SYS/#", "$SYS/uptime")
@example("+", "")
@example("/+", "/")
@example("a/+/#", "a/")
@example("a", "a\n")
def test_a_filter_matches_what_the_standard_says(pattern: str, topic: str) -> None:
    assert (TopicFilter.parse(pattern).match(topic) is not None) == reference(pattern, topic)


@given(filters)
def test_a_filter_without_names_is_its_own_wire_form(pattern: str) -> None:
    parsed = TopicFilter.parse(pattern)
    assert parsed.wire == parsed.text == pattern
    assert set(parsed.names) <= {""}


def test_named_levels() -> None:
    parsed = TopicFilter.parse("cells/+cell/+/+slot/#")
    assert parsed.wire == "cells/+/+/+/#"
    assert parsed.names == ("cell", "", "slot")
    assert parsed.match("cells/7/x/front/scan/raw") == {"cell": "7", "slot": "front"}
    assert parsed.match("cells/7/x/front") == {"cell": "7", "slot": "front"}
    assert parsed.match("cells/7/x") is None
    assert TopicFilter.parse("a/+b").match("a/") == {"b": ""}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "at least one character"),
        ("a\x00b", "NUL"),
        ("a/#/b", "# alone at the end"),
        ("a/b#", "# alone at the end"),
        ("a+/b", r"\+ stands at the start"),
        ("a/+7", "a named level is"),
        ("a/+b-c", "a named level is"),
        ("a/++", "a named level is"),
        ("+a/x/+a", "used twice"),
        ("ä" * 32_768, "65535 bytes"),
    ],
)
def test_what_is_no_filter_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TopicFilter.parse(text)


@given(st.text())
def test_any_text_is_a_filter_or_a_value_error(text: str) -> None:
    try:
        parsed = TopicFilter.parse(text)
    except ValueError:
        return
    for index, part in enumerate(parsed.wire.split("/")):
        assert part in ("+", "#") or not set("+#") & set(part)
        assert part != "#" or index == parsed.wire.count("/")


@given(st.text())
def test_any_text_is_a_topic_or_a_value_error(text: str) -> None:
    try:
        topic = check_topic(text)
    except ValueError:
        return
    assert TopicFilter.parse(topic).match(topic) == {}


def test_an_output_topic_is_filled_from_the_inputs() -> None:
    levels = {"cell": "7", "slot": "front"}
    assert fill("cells/{cell}/{slot}/digit", levels) == "cells/7/front/digit"
    assert fill("plain", levels) == "plain"
    assert template_names("cells/{cell}/{slot}/{cell}") == ["cell", "slot", "cell"]
    with pytest.raises(ValueError, match=r"\{line\} names no"):
        fill("lines/{line}", levels)


def test_a_level_cannot_smuggle_in_a_template_or_a_wildcard() -> None:
    assert fill("out/{cell}", {"cell": "{slot}", "slot": "x"}) == "out/{slot}"
    with pytest.raises(ValueError, match="wildcard"):
        fill("out/{cell}", {"cell": "+"})


@pytest.mark.parametrize("good", ["a", "press-07", "A_b-9", "x" * 64])
def test_a_name(good: str) -> None:
    assert is_name(good)


@pytest.mark.parametrize("bad", ["", "a.b", "a b", "a/b", "ä", "x" * 65, "a\n", "+"])
def test_no_name(bad: str) -> None:
    assert not is_name(bad)


def test_edgeds_own_topics() -> None:
    tree = Tree("site/edged", "press-07")
    assert tree.status == "site/edged/press-07/status"
    assert tree.info == "site/edged/press-07/info"
    assert tree.telemetry == "site/edged/press-07/telemetry"
    assert tree.infer("digits") == "site/edged/press-07/models/digits/infer"
    assert tree.result("digits") == "site/edged/press-07/models/digits/result"
    assert tree.result("digits", "17") == "site/edged/press-07/models/digits/result/17"
    assert tree.error("digits", "17") == "site/edged/press-07/models/digits/error/17"
    assert tree.model_status("digits") == "site/edged/press-07/models/digits/status"
    assert tree.push("digits") == "site/edged/press-07/models/digits/push"
    assert tree.install("digits") == "site/edged/press-07/install/digits"
