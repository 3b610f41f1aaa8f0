"""File systems of a test's own, that can be full, read-only, or lost as by a power cut. They need root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest

from tests.waiting import until

LOST: Final = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH; 1 flushes the journal first
_SHUTDOWN: Final = 0x8004587D  # EXT4_IOC_SHUTDOWN, fs/ext4/ext4.h
_IMAGE_MB: Final = 32
_GONE_S: Final = 90.0


@contextlib.contextmanager
def small(folder: Path, size_mb: int) -> Iterator[Path]:
    """A file system in memory of so many MB, below `folder`. Skips the test where it cannot be mounted."""
    if os.geteuid() != 0:
        pytest.skip("SKIPPED: mounting a small file system needs root")
    mount = folder / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", mount], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"SKIPPED: mount: {mounted.stderr.decode().strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


def blank(image: Path, size_mb: int) -> None:
    """Makes `image` an ext4 file system of so many MB, which takes the room of what is written to it."""
    with image.open("wb") as file:
        file.truncate(size_mb * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)


def cut(mount: Path, flags: int = LOST) -> None:
    """What a power cut does to the ext4 file system that is mounted there."""
    descriptor = os.open(mount, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", flags))
    finally:
        os.close(descriptor)


class Disk:
    """An ext4 file system in a file, mounted by loop device."""

    def __init__(self, folder: Path) -> None:
        self._image, self.mount = folder / "image", folder / "mount"
        self.mount.mkdir()
        blank(self._image, _IMAGE_MB)

    def cut(self, flags: int) -> None:
        cut(self.mount, flags)

    def __enter__(self) -> Self:
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self.mount)], check=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        subprocess.run(["umount", str(self.mount)], check=True)
        until(self._is_gone, _GONE_S)  # a mount namespace that was made meanwhile has it still, cut off as it is

    def _is_gone(self) -> bool:
        asked = subprocess.run(["losetup", "--associated", str(self._image)], capture_output=True, check=True)
        return not asked.stdout
