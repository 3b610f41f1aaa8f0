"""Which version is spoken next."""

from __future__ import annotations

from typing import Literal

import pytest

from edged.transports.mqtt.versions import Ending, Versions


def _current(versions: Versions) -> str:
    return versions.current


@pytest.mark.parametrize("how", [Ending.UNSUPPORTED, Ending.SILENT])
def test_a_clear_no_goes_to_311_at_once(how: Ending) -> None:
    versions = Versions("auto")
    assert _current(versions) == "5"
    assert versions.failed(how)
    assert _current(versions) == "3.1.1"


def test_two_closes_go_to_311() -> None:
    versions = Versions("auto")
    assert not versions.failed(Ending.CLOSED)
    assert _current(versions) == "5"
    assert versions.failed(Ending.CLOSED)
    assert _current(versions) == "3.1.1"


def test_a_broker_that_wants_neither_does_not_make_it_spin() -> None:
    versions = Versions("auto")
    at_once = [versions.failed(Ending.UNSUPPORTED) for _ in range(6)]
    assert at_once == [True, False, True, False, True, False]


def test_what_worked_is_kept_through_a_restart_of_the_broker() -> None:
    versions = Versions("auto")
    versions.failed(Ending.SILENT)
    versions.worked()
    for _ in range(3):
        versions.failed(Ending.CLOSED)
    assert _current(versions) == "3.1.1"
    versions.worked()
    for _ in range(6):
        versions.failed(Ending.CLOSED)
    assert _current(versions) == "5"


@pytest.mark.parametrize("setting", ["5", "3.1.1"])
def test_a_written_version_stays(setting: Literal["5", "3.1.1"]) -> None:
    versions = Versions(setting)
    for how in (*Ending, Ending.CLOSED, Ending.CLOSED):
        assert not versions.failed(how)
    assert _current(versions) == setting


def test_begins_with_what_another_connection_found_out() -> None:
    versions = Versions("auto")
    versions.prefer("3.1.1")
    assert versions.current == "3.1.1"
    versions.worked()
    versions.prefer("5")
    assert versions.current == "3.1.1"
    for setting in ("5", "3.1.1"):
        fixed = Versions(setting)
        fixed.prefer("5" if setting == "3.1.1" else "3.1.1")
        assert fixed.current == setting
