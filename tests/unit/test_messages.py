"""messages: what the daemon knows is spliced into the worker's JSON without decoding it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.messages import Answer, with_parameters

members = st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.none(), st.booleans()), max_size=4)


def answer(body: dict[str, object], tail: bytes = b"", **facts: Any) -> Answer:
    text = json.dumps(body).encode()
    return Answer(text + tail, len(text) if tail else 0, "1", **facts)


@given(members.filter(bool), members, st.binary())
def test_parameters_join_the_object_and_the_tensors_stay(
    body: dict[str, object], parameters: dict[str, object], tail: bytes
) -> None:
    body.pop("parameters", None)
    payload, length = with_parameters(answer(body, tail), parameters)
    assert (length > 0) == bool(tail)
    assert payload.endswith(tail)
    expected = {**body, "parameters": parameters} if parameters else body
    assert json.loads(payload[: length or len(payload)]) == expected
    assert length in (0, len(payload) - len(tail))


def test_nothing_to_say_leaves_the_payload_alone() -> None:
    one = answer({"a": 1})
    assert with_parameters(one, {})[0] is one.payload


def test_the_daemons_own_facts_are_told() -> None:
    payload, _ = with_parameters(answer({"a": 1}, nonfinite=True, retried=True), {"seq": 7})
    assert json.loads(payload)["parameters"] == {"seq": 7, "nonfinite": True, "retried": True}
    assert "parameters" not in json.loads(with_parameters(answer({"a": 1}), {})[0])


def test_the_callers_parameters_are_not_changed() -> None:
    parameters: dict[str, object] = {"seq": 7}
    with_parameters(answer({"a": 1}, nonfinite=True), parameters)
    assert parameters == {"seq": 7}


def test_a_json_part_that_does_not_end_with_its_brace_is_refused() -> None:
    with pytest.raises(ValueError, match="closing brace"):
        with_parameters(Answer(b'{"a":1} ', 0, "1"), {"seq": 1})
