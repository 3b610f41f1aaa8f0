"""Topic -> model, form, levels and id."""

from __future__ import annotations

import pytest

from edged.config import schema
from edged.topics import Ota, Tree
from edged.transports.mqtt.inputs import Inputs, answerable

TREE = Tree("edged", "box")


def _inputs(*models: tuple[str, list[str]]) -> Inputs:
    return Inputs(
        TREE, [schema.Model(name, inputs=tuple(schema.Input(topic) for topic in topics)) for name, topics in models]
    )


def _found(inputs: Inputs, topic: str, *identifiers: int) -> list[tuple[str, int, str]]:
    return [(one.model, one.form, one.id) for one in inputs.targets(topic, identifiers)]


def test_infer_with_and_without_an_id() -> None:
    inputs = _inputs(("m", []), ("n", []))
    assert _found(inputs, TREE.infer("m")) == [("m", -1, "")]
    assert _found(inputs, TREE.infer("m") + "/a7") == [("m", -1, "a7")]
    assert _found(inputs, TREE.infer("m") + "/a/b") == []
    assert _found(inputs, TREE.infer("other")) == []
    assert _found(inputs, TREE.push("m")) == []


def test_each_model_takes_a_topic_once_by_its_first_entry() -> None:
    inputs = _inputs(("m", ["cells/+cell/scan", "cells/#"]), ("n", ["cells/7/scan"]))
    assert _found(inputs, "cells/7/scan") == [("m", 0, ""), ("n", 0, "")]
    assert _found(inputs, "cells/7/other") == [("m", 1, "")]
    assert inputs.targets("cells/7/scan")[0].levels == {"cell": "7"}
    assert [one.filter for one in inputs.foreign] == ["cells/#", "edged/all/request/+"]


def test_of_several_copies_each_model_takes_one() -> None:
    inputs = _inputs(("m", ["a/+x", "+y/b"]), ("n", ["+y/b"]))
    first, second = (one.identifier for one in inputs.foreign[:2])
    assert first != second
    assert _found(inputs, "a/b", first) == [("m", 0, "")]
    assert _found(inputs, "a/b", second) == [("n", 0, "")]
    assert _found(inputs, "a/b", first, second) == [("m", 0, ""), ("n", 0, "")]
    assert _found(inputs, "a/b") == [("m", 0, ""), ("n", 0, "")]


def test_a_wildcard_does_not_reach_into_edgeds_own_trees() -> None:
    inputs = _inputs(("m", ["#"]), ("n", ["edged/box/models/m/result"]), ("o", ["edged/ota/+what/#"]))
    assert _found(inputs, Ota("edged").blob("0" * 64)) == [("o", 0, "")]
    assert _found(inputs, TREE.result("m")) == [("n", 0, "")]
    assert _found(inputs, TREE.infer("m"), 1) == [("m", -1, "")]
    assert _found(inputs, TREE.infer("m"), 2) == []
    assert _found(inputs, "sensors/x") == [("m", 0, "")]


def test_memory_of_topics_is_bounded() -> None:
    inputs = _inputs(("m", ["cells/#"]))
    for number in range(5000):
        assert _found(inputs, f"cells/{number}") == [("m", 0, "")]
        assert _found(inputs, f"{TREE.infer('m')}/{number}") == [("m", -1, str(number))]
    assert len(inputs._known) <= 1024


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "a/+",
        "a/#",
        "$SYS/x",
        "a\x00",
        TREE.infer("m"),
        TREE.infer("m") + "/1",
        TREE.push("m"),
        "edged/other/models/m/infer",
        "edged/all/request/ping",
        TREE.status,
        TREE.telemetry,
        TREE.install("m"),
        TREE.model_status("m"),
        TREE.response("ping"),
        Ota(TREE.base).want("m", "all"),
        "edged/group/line-2/request/ping",
        "edged/other/status",
        "edged/other/install/m",
        "edged/other/models/m/status",
        "edged/other/request/ping",
    ],
)
def test_not_answerable(topic: str) -> None:
    assert answerable(TREE, topic)


@pytest.mark.parametrize(
    "topic", ["answers/me", TREE.result("m", "7"), TREE.result("m", "push"), "edged/other/answers", "infer"]
)
def test_answerable(topic: str) -> None:
    assert answerable(TREE, topic) == ""


def test_a_shared_topic_is_asked_for_with_its_group_and_taken_as_what_it_is() -> None:
    shared = schema.Input("cells/+cell/scan", share="line-2")
    inputs = Inputs(TREE, [schema.Model("m", inputs=(shared,)), schema.Model("n", inputs=(schema.Input("cells/#"),))])
    first, second = inputs.foreign[:2]
    assert (first.filter, second.filter) == ("$share/line-2/cells/+/scan", "cells/#")
    # Of one message a box may get its own copy, and the group's: each counts for one of the two.
    assert _found(inputs, "cells/7/scan", first.identifier) == [("m", 0, "")]
    assert _found(inputs, "cells/7/scan", second.identifier) == [("n", 0, "")]
    assert inputs.targets("cells/7/scan", [first.identifier])[0].levels == {"cell": "7"}
