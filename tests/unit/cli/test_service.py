"""cli.service: what systemd says of the unit, and with which environment it runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edged.cli import service


def test_what_systemd_shows() -> None:
    shown = "User=edged\nMainPID=116\nResult=success\nLoadState=loaded\nActiveState=active\nSubState=running\n"
    assert service.shown(shown) == service.Service("active", "running", "success", 116, "edged")
    assert service.shown("LoadState=not-found\nActiveState=inactive\nMainPID=0\n") is None
    assert service.shown("") is None  # no systemd


def test_another_configuration_than_the_services_is_read_as_it_is_here(tmp_path: Path) -> None:
    assert service.of(tmp_path / "edged.yaml") is None
    assert service.environment(None, {"BROKER": "here"}) == {"BROKER": "here"}
    assert service.hidden(None, [tmp_path]) == []


@pytest.mark.skipif("HOME" not in os.environ, reason="the environment that this process began with has no HOME")
def test_while_the_service_runs_its_environment_counts() -> None:
    process = service.Service("active", "running", "success", os.getpid(), "edged")
    found = service.environment(process, {"HOME": "/another", "OTHER": "kept"})
    assert (found["HOME"], found["OTHER"]) == (os.environ["HOME"], "kept")
    ended = service.Service("failed", "failed", "exit-code", 0, "edged")
    assert service.environment(ended, {"HOME": "/another"}) == {"HOME": "/another"}
