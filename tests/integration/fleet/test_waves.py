"""A hundred devices on a real Mosquitto, a release that three of them cannot run, and the real commands, killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.delivery.documents import Rollout
from edged.delivery.want import takes_part
from edged.fleet.waves import choose_salt
from tests.brokers import Mosquitto
from tests.fleets import Devices
from tests.operators import PATIENCE_S, Desk
from tests.releases import content, folder_of

COUNT = 100
QUICK = ("--waves", "1,10,50,100", "--soak", "300ms", "--every", "200ms")


@pytest.fixture
def operator(tmp_path: Path, broker: Mosquitto) -> Desk:
    return Desk(tmp_path / "operator", broker.url)


@pytest.fixture
def devices(operator: Desk, broker: Mosquitto) -> Iterator[Devices]:
    with Devices(broker.port, COUNT, operator.trust) as running:
        yield running


def percent(status: dict[str, Any]) -> tuple[float, bool, str]:
    """How far the want for all has come, whether it is paused, and its salt."""
    for one in status["orders"]:
        if one["kind"] == "want" and one["to"] == "all":
            rollout = one.get("rollout", {})
            return rollout.get("percent", 100.0), rollout.get("pause", False), rollout.get("salt", "")
    return 0.0, False, ""


def among(names: list[str], sha256: str, above: float, most: float) -> list[str]:
    """The boxes that the rollout of this release comes to between these two percents."""
    salt = choose_salt(sha256, 1, names)
    assert salt is not None
    return [one for one in names if takes_part(Rollout(most, salt), one) and not takes_part(Rollout(above, salt), one)]


def test_waves_halt_at_the_threshold_are_resumed_and_end_with_the_right_set(
    operator: Desk, devices: Devices, tmp_path: Path
) -> None:
    folder = str(tmp_path / "digits-2")
    sha256 = folder_of(Path(folder), {"model.onnx": content(2000)}, operator)
    third, last = among(devices.names, sha256, 10, 50), among(devices.names, sha256, 50, 100)
    flawed = {third[0], last[0], last[1]}
    devices.fail(sha256, flawed)

    # Begun, and killed in the middle of its third wave.
    with operator.start("fleet", "rollout", folder, *QUICK) as process:
        devices.wait(lambda: devices.running(sha256) & set(third) or process.poll() is not None, PATIENCE_S)
        process.kill()
        said = process.communicate(timeout=PATIENCE_S)[0]
        assert "goes on to 50 %" in said, said

    # The truth is on the broker, nobody needs the controller for it.
    devices.wait(devices.idle)
    status = operator.status()
    reached, paused, salt = percent(status)
    assert (reached, paused) == (50, False)
    members = {name for name in devices.names if takes_part(Rollout(50, salt), name)}
    models = {box["name"]: box["models"][0] for box in status["boxes"]}
    assert {name for name, model in models.items() if model["state"] == "live"} == members - flawed
    assert {name for name, model in models.items() if model["failed"]} == members & flawed
    assert {name for name, model in models.items() if model["state"] == "outside"} == set(devices.names) - members
    assert devices.running(sha256) == members - flawed

    # The same command goes on, and halts where more than 2 and more than 2 % have failed.
    code, said = operator.run("fleet", "rollout", folder, *QUICK)
    assert code == 1, said
    assert "begins" not in said
    assert "halts: 3 of 100 failed, more than 2 and more than 2 %" in said
    assert "[halted]" in said
    reached, paused, _ = percent(operator.status())
    assert (reached, paused) == (100, True)
    assert devices.running(sha256).isdisjoint(flawed)
    code, said = operator.run("fleet", "rollout", folder, *QUICK)
    assert (code, "halted at 100 %" in said) == (1, True)

    # Mended, it is resumed, and everybody has installed it once.
    devices.mend()
    code, said = operator.run("fleet", "rollout", folder, *QUICK, "--retry")
    assert code == 0, said
    assert "all waves are through" in said
    assert devices.running(sha256) == set(devices.names)
    with devices.held() as all_of_them:
        assert all(one.installed == [sha256] for one in all_of_them.values())
    assert all(box["models"][0]["done"] for box in operator.status()["boxes"])
