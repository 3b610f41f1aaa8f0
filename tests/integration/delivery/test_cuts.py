"""Installs that are cut short, by SIGKILL and by the loss of the file system: the old or the new one is always whole.

That these tests would notice is tested as well: without an fsync, or with files written in place, they find fault.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


def lives(
    what: str, how: str, folder: Path, count: int, seed: int, *without: str, limit_s: float = 100
) -> dict[str, Any]:
    program = [sys.executable, "-m", "tests.integration.delivery.lives", what, how, str(folder), str(count), str(seed)]
    done = subprocess.run([*program, *without], cwd=ROOT, capture_output=True, text=True, timeout=limit_s)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("what", "installs"), [("files", 25), ("daemon", 10)])
def test_ota_F02_F03_F05_F08_a_killed_install_leaves_the_old_or_the_new_one_whole(
    tmp_path: Path, what: str, installs: int
) -> None:
    found = lives(what, "kill", tmp_path, installs, 1)
    assert found["problems"] == []
    assert found["installs"] >= installs
    assert found["lives"] >= 5


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("what", "everywhere"),
    [
        ("files", {"opened", "fetching", "committing", "committed"}),
        ("daemon", {"opened", "committing", "offered", "downloading", "verified", "trial", "probation", "idle"}),
    ],
)
def test_500_installs_under_sigkill(tmp_path: Path, what: str, everywhere: set[str]) -> None:
    found = lives(what, "kill", tmp_path, 500, 2, limit_s=1400)
    assert found["problems"] == []
    assert found["installs"] >= 500
    assert set(found["ends"]) >= everywhere


def test_the_killing_would_notice_files_that_are_written_in_place(tmp_path: Path) -> None:
    assert lives("files", "kill", tmp_path, 200, 3, "rename")["problems"]


@pytest.mark.parametrize("what", ["files", "daemon"])
def test_ota_F02_F03_F05_F08_a_power_cut_leaves_the_old_or_the_new_one_whole(disks: Path, what: str) -> None:
    found = lives(what, "cut", disks, 12, 1)
    assert found["problems"] == []
    assert found["installs"] > 0


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ["files", "daemon"])
def test_60_power_cuts(disks: Path, what: str) -> None:
    found = lives(what, "cut", disks, 60, 2, limit_s=800)
    assert found["problems"] == []
    assert found["installs"] > 20


@pytest.mark.parametrize("left_out", ["fsync", "rename"])
def test_the_power_cuts_would_notice_what_is_left_out(disks: Path, left_out: str) -> None:
    assert lives("files", "cut", disks, 60, 3, left_out)["problems"]
