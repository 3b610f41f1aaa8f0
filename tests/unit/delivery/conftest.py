"""Fixtures for what is pulled, stored and decided."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.delivery.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty state directory, opened."""
    opened = Store(tmp_path / "state")
    opened.open()
    yield opened
    opened.close()
