"""An operator's machine and somebody who looks at the broker, for the commands of the fleet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Mosquitto
from tests.integration.fleet.machines import Machine, Watcher


@pytest.fixture
def machine(tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "fleet", broker, monkeypatch)


@pytest.fixture
def watcher(broker: Mosquitto) -> Iterator[Watcher]:
    found = Watcher(broker)
    yield found
    found.connection.close()
