"""The unit as systemd itself reads it, and the lines that RULES would miss if they went."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = SYSTEMD / "edged.service"
CAMERA = SYSTEMD / "edged-camera@.service"
PROGRAM = "/opt/edged/bin/edged"
EXPOSURE_LIMIT = 16  # tenths: what is promised to users

analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (apt: systemd)"
)


def settings() -> list[tuple[str, str]]:
    """The unit's assignments in their order; a setting that is a list has several."""
    lines = [line for line in UNIT.read_text().splitlines() if line and line[0] not in "#;["]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@analyze
def test_systemd_reads_it_without_a_word(tmp_path: Path) -> None:
    installed = tmp_path / "edged.service"
    # The program is not installed on the machine that runs the tests; everything else is checked as shipped.
    installed.write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    done = run("systemd-analyze", "verify", "--man=no", str(installed))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@analyze
@pytest.mark.parametrize("drop_in", sorted((SYSTEMD / "drop-ins").glob("*.conf")), ids=lambda path: path.stem)
def test_systemd_reads_each_drop_in_without_a_word(tmp_path: Path, drop_in: Path) -> None:
    installed = tmp_path / "edged.service"
    installed.write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    (tmp_path / "edged.service.d").mkdir()
    shutil.copy(drop_in, tmp_path / "edged.service.d")
    done = run("systemd-analyze", "verify", "--man=no", str(installed))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@analyze
def test_exposure_is_as_promised() -> None:
    done = run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", str(UNIT))
    assert done.returncode == 0, done.stdout


@analyze
def test_the_cameras_unit_is_read_without_a_word_and_as_closed(tmp_path: Path) -> None:
    """As one of its instances, which is what is started."""
    installed = tmp_path / "edged-camera@video0.service"
    installed.write_text(CAMERA.read_text())
    done = run("systemd-analyze", "verify", "--man=no", str(installed))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", str(installed))
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_the_user_and_the_groups_are_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = run("systemd-sysusers", f"--root={tmp_path}", str(SYSTEMD / "edged.sysusers"))
    assert done.returncode == 0, done.stderr
    groups = {line.split(":")[0] for line in (tmp_path / "etc/group").read_text().splitlines()}
    assert {"edged", "edged-admin"} <= groups
    assert "edged:" in (tmp_path / "etc/passwd").read_text()


@pytest.mark.parametrize(
    "line",
    [
        ("Type", "notify"),
        ("Restart", "always"),
        ("RestartSec", "2"),
        ("StartLimitIntervalSec", "0"),
        ("RestartPreventExitStatus", "2"),
        ("KillMode", "mixed"),
        ("ExecReload", f"{PROGRAM} check --config /etc/edged/edged.yaml --reload"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("OOMPolicy", "continue"),
        ("LimitNICE", "+0"),
        ("RuntimeDirectoryPreserve", "yes"),
        ("StateDirectoryMode", "0750"),
        ("CacheDirectory", "edged"),
        ("CacheDirectoryMode", "0750"),
        ("User", "edged"),
    ],
)
def test_what_keeps_a_box_in_the_field_alive_stays(line: tuple[str, str]) -> None:
    assert line in settings()


def test_what_would_break_it_stays_out() -> None:
    names = {name for name, _ in settings()}
    assert names.isdisjoint({"PrivateUsers", "MemoryHigh", "ProcSubset", "ExecStartPre", "DynamicUser"})


def test_the_way_back_from_low_priority_is_allowed_after_the_deny() -> None:
    filters = [value for name, value in settings() if name == "SystemCallFilter"]
    assert filters == ["@system-service", "~@privileged @resources", "setpriority nice sched_setaffinity"]


def test_the_environment_is_what_the_program_needs() -> None:
    (environment,) = [value for name, value in settings() if name == "Environment"]
    assert {"ORT_DISABLE_TELEMETRY=1", "TMPDIR=/run/edged"} <= set(environment.split())
