"""On each Debian that there is a package for: from the file to the first answer, and back to nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.conftest import booted
from tests.system.machines import Machine
from tests.system.service import MOST_EXPOSED, ROOT, exposure, label, main_process, show

ANSWER_LIMIT_S = 60  # what is promised from the package to the first answer


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def debian(
    request: pytest.FixtureRequest, build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A bare one, with the package's file."""
    machine = booted(request.param, tmp_path_factory.mktemp(request.param))
    try:
        machine.put(build(request.param), "/root/edged.deb")
        yield machine
    finally:
        machine.poweroff()


def commands() -> list[str]:
    """What docs/install.md says to do on the box."""
    page = (ROOT / "docs/install.md").read_text()
    block = page.partition("On the box:\n\n")[2].partition("\n\n")[0]
    return [line.partition("  #")[0].strip().removeprefix("sudo ") for line in block.splitlines()]


def test_three_commands_from_the_package_to_an_answer(debian: Machine) -> None:
    """Those of the page. The package's own time counts, the machine's does not."""
    install, status, ask = commands()
    verb, _, _ = install.partition("./")
    began_s = time.monotonic()
    debian.run(f"cd /root; {verb} -y ./edged.deb", limit_s=300)
    assert "serving" in debian.says(status)
    assert label(json.loads(debian.says(ask))) != ""
    assert time.monotonic() - began_s < ANSWER_LIMIT_S


def test_its_unit_is_clean_and_as_closed_as_promised(debian: Machine) -> None:
    assert debian.says("systemd-analyze verify --man=no edged.service 2>&1") == ""
    assert exposure(debian) <= MOST_EXPOSED
    assert debian.says("journalctl -u edged -p warning --no-pager -q") == ""


def test_it_reloads_and_stops_cleanly(debian: Machine) -> None:
    before = main_process(debian)
    debian.run("systemctl reload edged")
    assert main_process(debian) == before
    debian.run("systemctl stop edged")
    assert show(debian, "Result") == "success"
    assert debian.says("mosquitto_sub -t edged/press-07/status -C 1 -W 10") == "offline"


def test_a_purge_leaves_nothing(debian: Machine) -> None:
    """Last, as nothing is left of it."""
    debian.run("apt-get purge -y edged", limit_s=300)
    assert debian.says("getent passwd edged || getent group edged edged-admin || true") == ""
    left = debian.says("find / -xdev -name '*edged*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/root/*'")
    assert [line for line in left.splitlines() if "/journal/" not in line] == []
