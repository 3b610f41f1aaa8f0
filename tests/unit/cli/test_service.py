"""cli.service: what systemd says of the unit, and with which environment it runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edged.cli import service, symptoms


def test_what_systemd_shows() -> None:
    shown = "User=edged\nMainPID=116\nNRestarts=2\nResult=success\nLoadState=loaded\nActiveState=active\n"
    assert service.shown(shown) == service.Service("active", "success", 116, 2, "edged")
    assert service.shown("LoadState=not-found\nActiveState=inactive\nMainPID=0\n") is None
    assert service.shown("") is None  # no systemd


def test_another_configuration_than_the_services_is_read_as_it_is_here(tmp_path: Path) -> None:
    assert service.configuration(str(tmp_path / "edged.yaml")) == tmp_path / "edged.yaml"
    assert service.of(tmp_path / "edged.yaml") is None
    assert service.environment(None, {"BROKER": "here"}) == {"BROKER": "here"}
    assert service.hidden(None, [tmp_path]) == []


@pytest.mark.skipif("HOME" not in os.environ, reason="the environment that this process began with has no HOME")
def test_while_the_service_runs_its_environment_counts() -> None:
    process = service.Service("active", "success", os.getpid(), 0, "edged")
    found = service.environment(process, {"HOME": "/another", "OTHER": "kept"})
    assert (found["HOME"], found["OTHER"]) == (os.environ["HOME"], "kept")
    ended = service.Service("failed", "exit-code", 0, 0, "edged")
    assert service.environment(ended, {"HOME": "/another"}) == {"HOME": "/another"}


def test_a_service_that_does_not_start_is_bad_and_one_that_is_stopped_is_to_be_known(tmp_path: Path) -> None:
    def told(state: str, result: str, restarts: int) -> list[tuple[str, str]]:
        unit = service.Service(state, result, 0, restarts, "nobody-of-that-name")
        found = symptoms.of_box(tmp_path / "edged.yaml", None, unit)
        return [(one.level, one.said) for one in found if one.what == "service"]

    assert told("active", "success", 3) == []
    assert told("failed", "exit-code", 0) == [("bad", "it has failed: exit-code")]
    again = [("bad", "it does not start, and systemd tries it again and again")]
    assert told("activating", "exit-code", 0) == told("activating", "success", 1) == again
    assert told("activating", "success", 0) == [("note", "it is activating")]
    assert told("inactive", "success", 0) == [("note", "it is inactive")]
