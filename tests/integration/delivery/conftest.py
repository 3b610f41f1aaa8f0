"""Disks for the tests of delivery."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 7 MB, 4 of which no download may take."""
    if os.geteuid() != 0:
        pytest.skip("SKIPPED: mounting a small file system needs root")
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=7m", "tmpfs", mount], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"SKIPPED: mount: {mounted.stderr.decode().strip()}")
    yield mount
    subprocess.run(["umount", mount], check=True)


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
