"""scripts/install on a machine without a package of edged: to an answer, to a newer version, and away again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import booted
from tests.system.machines import Machine
from tests.system.service import ask, main_process, show

CONFIGURATION = "/etc/edged/edged.yaml"
ROOT = Path(__file__).resolve().parents[2]
# The machine has no network: pip takes from this folder what it would fetch.
INSTALL = "PIP_NO_INDEX=1 PIP_FIND_LINKS=/root/wheels /root/edged/scripts/install"


def fetched(folder: Path) -> None:
    """What the lock files name, for Debian 12's Python."""
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(5, 37)]
    for lock in ("requirements.lock", "requirements-demo.lock"):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps", "--requirement"]
        command += [lock, "--dest", str(folder), "--only-binary", ":all:", "--python-version", "3.11", *platforms]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a clone, and the wheels that it would fetch."""
    machine = booted("bookworm", tmp_path_factory.mktemp("machine"))
    try:
        folder = tmp_path_factory.mktemp("fetched")
        fetched(folder / "wheels")
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate"]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        there = "\n".join(name for name in names.splitlines() if (ROOT / name).exists())
        subprocess.run(["tar", "-cf", folder / "clone", "-C", ROOT, "-T", "-"], input=there, text=True, check=True)
        subprocess.run(["tar", "-cf", folder / "fetched", "-C", folder, "wheels"], check=True)
        for name, place in (("clone", "/root/edged"), ("fetched", "/root")):
            machine.put(folder / name, "/root/tar")
            machine.run(f"mkdir -p {place} && tar --no-same-owner -xf /root/tar -C {place} && rm /root/tar")
        yield machine
    finally:
        machine.poweroff()


def test_from_a_clone_to_an_answer(bare: Machine) -> None:
    done = bare.run(INSTALL, limit_s=600)
    assert "is installed" in done.stdout
    assert ask(bare) == "three"
    assert show(bare, "UnitFileState") == "enabled"
    assert bare.says("systemd-analyze verify --man=no edged.service 2>&1") == ""
    assert bare.says("stat -c '%U %a' /run/edged /var/lib/edged /etc/edged/edged.yaml").split("\n") == [
        "edged 750",
        "edged 750",
        "root 644",
    ]
    assert bare.says("find /opt/edged /usr/bin/edged /usr/share/edged -perm /022 ! -type l") == ""
    assert ".TH EDGED 1" in bare.says("zcat /usr/share/man/man1/edged.1.gz | head -1")


def test_again_is_an_upgrade(bare: Machine) -> None:
    """What nobody has touched follows the new version, what it has no more goes, and what is the user's stays."""
    before = main_process(bare)
    bare.run(
        """cd /root/edged; echo kept >/var/lib/edged/note
        sed -i 's/^__version__ = "[^"]*/&.1/' edged/__init__.py
        echo '# newer' >>configs/installed.yaml; rm docs/keys.md"""
    )
    bare.run(INSTALL, limit_s=600)
    assert bare.says(f"tail -n 1 {CONFIGURATION}; cat /var/lib/edged/note") == "# newer\nkept"
    assert bare.says("ls /opt; ls /usr/share/doc/edged/docs/keys.md 2>&1 || true").startswith("edged\nls: cannot")
    assert bare.says("edged version").endswith(".1")
    assert main_process(bare) not in (0, before)
    assert ask(bare) == "three"


def test_uninstalling_keeps_configuration_and_state_and_they_are_found_again(bare: Machine) -> None:
    bare.run(f"echo '# mine' >>{CONFIGURATION}")
    bare.run("/root/edged/scripts/install --uninstall")
    assert bare.says(f"tail -n 1 {CONFIGURATION}; cat /var/lib/edged/note; ls /opt") == "# mine\nkept"
    assert bare.run("systemctl cat edged", check=False).returncode != 0
    assert bare.says("mosquitto_sub -t edged/press-07/status -C 1 -W 10") == "offline"
    done = bare.run(INSTALL, limit_s=600)
    assert f"{CONFIGURATION} is yours, and kept" in done.stdout
    assert bare.says(f"diff {CONFIGURATION}.new {CONFIGURATION} || true").endswith("> # mine")
    assert ask(bare) == "three"


def test_a_purge_leaves_nothing(bare: Machine) -> None:
    """Last, as nothing is left of it."""
    bare.run("/root/edged/scripts/install --uninstall --purge")
    assert bare.says("getent passwd edged || getent group edged edged-admin || true") == ""
    left = bare.says("find / -xdev -name '*edged*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/root/*'")
    assert [line for line in left.splitlines() if "/journal/" not in line] == []
