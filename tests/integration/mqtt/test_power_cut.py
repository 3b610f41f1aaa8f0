"""What the outbox was told to be safe is there after the power was cut, whatever else is not."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.records import Moment
from edged.transports.mqtt.segments import Segments, encoded
from edged.transports.mqtt.stock import FIRST
from tests.disks import LOST, Disk

NOW = Moment("boot", 100.0, 0)


def some(*numbers: int) -> list[bytes]:
    return encoded([Publication("t", str(number).encode(), 1) for number in numbers], NOW)


def found(folder: Path) -> list[int]:
    with closing(Segments(folder)) as segments:
        parts, damaged = segments.open()
        assert not damaged
        return [int(one.payload) for part in parts for one in segments.read(part.first, 0, part.count, 10**6)[1] if one]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A file system that can be lost."""
    if os.geteuid() != 0:
        pytest.skip("no power cuts: loop devices need root")
    try:
        found = Disk(tmp_path)
        with found:
            return found
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no power cuts: this machine mounts no loop device: {error}")


@pytest.mark.parametrize("last", ["new segment", "same segment", "carried"])
def test_a_power_cut_takes_nothing_that_was_safe(disk: Disk, last: str) -> None:
    folder = disk.mount / "outbox"
    with disk, closing(Segments(folder)) as segments:
        segments.open()
        segments.append(FIRST, some(2, 3), "boot", new=True)
        match last:
            case "new segment":
                segments.append(FIRST + 2, some(4), "boot", new=True)
            case "same segment":
                segments.append(FIRST, some(4), "boot", new=False)
            case "carried":
                segments.carry(some(1), "boot")
        disk.cut(LOST)
    with disk:
        assert found(folder) == ([1, 2, 3] if last == "carried" else [2, 3, 4])
