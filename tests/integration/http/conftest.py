"""A served double for the HTTP tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.transports.rest.limits import Limits
from tests.integration.http.double import MESSAGE_LIMIT, Served

QUICK = Limits(
    header_s=0.3,
    body_s=0.3,
    idle_s=1,
    linger_s=0.5,
    net_s=0.0,
    deadline_s=10,
    connections=8,
    pipeline=4,
    bodies=1,
    chunk=MESSAGE_LIMIT,
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
