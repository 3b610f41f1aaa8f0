"""The index of the models, and what a load may bring."""

from __future__ import annotations

import pytest

from edged.errors import EdgedError, fault
from edged.oip import repository
from tests.unit.oip.views import view

VIEWS = (
    view(),
    view(name="cam", state="starting", version="1"),
    view(name="new", state="waiting", version=""),
    view(name="off", state="waiting", version="", unloaded=True),
    view(name="bad", state="failed", version="2", fault=fault("not_a_model", "it is a text file")),
)


def test_each_model_has_a_row_with_its_state() -> None:
    rows = [tuple(row.values()) for row in repository.index(VIEWS, ready=False)]
    assert rows == [
        ("digits", "3", "READY", ""),
        ("cam", "1", "LOADING", ""),
        ("new", "", "UNAVAILABLE", "waits for its first push"),
        ("off", "", "UNAVAILABLE", "unloaded"),
        ("bad", "2", "UNAVAILABLE", "not_a_model: it is a text file"),
    ]


def test_only_those_that_answer() -> None:
    assert [row["name"] for row in repository.index(VIEWS, ready=True)] == ["digits"]


@pytest.mark.parametrize(("said", "ready"), [({}, False), ({"ready": True}, True), ({"ready": False, "x": 1}, False)])
def test_what_an_index_asks_for(said: object, ready: bool) -> None:
    assert repository.wants_ready(said) is ready


@pytest.mark.parametrize("said", [[], 3, None, {"ready": 1}, {"ready": "yes"}])
def test_an_index_that_asks_for_nonsense(said: object) -> None:
    with pytest.raises(EdgedError, match="bad_input"):
        repository.wants_ready(said)


@pytest.mark.parametrize("parameters", [{}, {"unload_dependents": False}])
def test_a_load_of_what_the_box_has(parameters: dict[str, object]) -> None:
    repository.check_load(parameters)


@pytest.mark.parametrize("parameters", [{"config": "{}"}, {"file:1/model.onnx": "AAAA"}, {"x": 1}])
def test_a_load_brings_nothing(parameters: dict[str, object]) -> None:
    with pytest.raises(EdgedError, match="unsupported") as found:
        repository.check_load(parameters)
    assert "edged push" in found.value.fault.hint


@pytest.mark.parametrize("parameters", [[], 3, None, "config"])
def test_parameters_that_are_none(parameters: object) -> None:
    with pytest.raises(EdgedError, match="bad_input"):
        repository.check_load(parameters)
