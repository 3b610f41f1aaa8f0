"""A served double for the gRPC tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.transports.rpc.limits import Limits
from tests.integration.grpc.double import Served

QUICK = Limits(
    header_s=0.3,
    body_s=0.6,
    stall_s=0.3,
    idle_s=0.5,
    net_s=0.0,
    connections=3,
    streams=4,
    messages=2,
    bodies=1,
    sweep_s=0.05,
    chatter=50,
)


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """One for a whole module, with the limits that users get."""
    with (
        tempfile.TemporaryDirectory(prefix="edged-", dir="/tmp") as folder,
        Served(Path(folder), loop=request.param) as running,
    ):
        yield running


@pytest.fixture
def quick(short_path: Path) -> Iterator[Served]:
    """One for a test, with limits that can be waited for."""
    with Served(short_path, QUICK) as running:
        yield running
