"""A box of a fleet, and disks, for the tests of delivery."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.delivery import pursuit
from tests import disks as file_systems
from tests.integration.delivery.bench import OLD
from tests.integration.delivery.fleet import Fleet


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The state directory of a box that has a factory model."""
    (tmp_path / "factory.onnx").write_bytes(OLD)
    return tmp_path


@pytest.fixture
def fleet(root: Path) -> Fleet:
    return Fleet(root)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stood in an order's way is looked at again soon."""
    monkeypatch.setattr(pursuit, "AGAIN_S", 0.05)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """4 MB of it no download may take."""
    with file_systems.small(tmp_path, 7) as mount:
        yield mount


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Path]:
    """Where file systems of their own can be mounted and lost."""
    if os.geteuid() != 0:
        pytest.skip("SKIPPED: no power cuts: loop devices need root")
    image, mount = tmp_path / "try", tmp_path / "there"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(8 * 2**20)
    tries = (f"mkfs.ext4 -q -F {image}", f"mount -o loop {image} {mount}", f"umount {mount}")
    try:
        for one in tries:
            subprocess.run(one.split(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"SKIPPED: no power cuts: this machine mounts no loop device: {error}")
    yield tmp_path
    if (tmp_path / "mount").is_mount():  # a test that was stopped
        subprocess.run(["umount", "-l", str(tmp_path / "mount")], check=True)
