"""A served double for the tests of the fast lane."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.transports.fast.limits import Limits
from tests.integration.fast.double import Served

QUICK = Limits(
    frame_s=0.4,
    stall_s=0.2,
    linger_s=0.5,
    net_s=0.0,
    connections=8,
    pipeline=4,
    bodies=1,
    ring=2**20,
    rings=2 * 2**20,
    sweep_s=0.05,
)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """One for a whole module, with the limits that users get; on uvloop, as in the daemon."""
    with tempfile.TemporaryDirectory(prefix="edged-", dir="/tmp") as folder, Served(Path(folder)) as running:
        yield running


@pytest.fixture
def quick(short_path: Path) -> Iterator[Served]:
    """One for a test, with limits that can be waited for."""
    with Served(short_path, QUICK) as running:
        yield running
