"""Regions of shared memory, for requests of any transport."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.oip.regions import Regions


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[Regions]:
    """`in`, which has the bytes from 0 to 199, and `out`, all zeros. Whoever uses them lets go of them."""
    (tmp_path / "in").write_bytes(bytes(range(200)))
    (tmp_path / "out").write_bytes(bytes(200))
    found = Regions(str(tmp_path))
    found.register("in", "in", 0, 200)
    found.register("out", "out", 0, 200)
    yield found
    assert [region._users for region in found._regions.values()] == [1, 1]
    found.unregister()
