"""Fixtures for listeners of any transport."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.certificates import Authority


@pytest.fixture
def authority(short_path: Path) -> Authority:
    """One that has issued the certificates of a `box`, which is a server, and of a `client`."""
    made = Authority(short_path)
    made.issue("box", server=True)
    made.issue("client")
    return made
