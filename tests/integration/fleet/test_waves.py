"""Rollouts by the real commands to devices with connections of their own: boxes that are away, late, or too many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edged.delivery.documents import Rollout
from edged.delivery.want import takes_part
from edged.fleet.waves import choose_salt
from tests.brokers import Mosquitto
from tests.fleets import Devices
from tests.operators import PATIENCE_S, Desk
from tests.releases import content, folder_of

QUICK = ("--waves", "1,10,50,100", "--soak", "300ms", "--every", "200ms")


@pytest.fixture
def desk(tmp_path: Path, broker: Mosquitto) -> Desk:
    return Desk(tmp_path / "operator", broker.url)


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


@pytest.mark.soak
def test_a_thousand_devices_halt_at_the_threshold_are_resumed_and_end_with_the_right_set(
    desk: Desk, broker: Mosquitto, tmp_path: Path
) -> None:
    """test_installers.py has the short form, with the real installer."""
    folder = tmp_path / "digits-2"
    sha256 = folder_of(folder, {"model.onnx": content(2000)}, desk)
    with Devices(broker.port, 1000, desk.trust) as devices:
        third, last = among(devices.names, sha256, 10, 50), among(devices.names, sha256, 50, 100)
        flawed = {*third[:9], *last[:21]}
        devices.fail(sha256, flawed)
        with desk.start("fleet", "rollout", str(folder), *QUICK) as process:
            devices.wait(lambda: devices.running(sha256) & set(third) or process.poll() is not None, PATIENCE_S)
            process.kill()
        devices.wait(devices.idle)
        status = desk.status()
        reached, paused, salt = percent(status)
        assert (reached, paused) == (50, False)
        members = {name for name in devices.names if takes_part(Rollout(50, salt), name)}
        models = {box["name"]: box["models"][0] for box in status["boxes"]}
        assert len(models) == 1000
        assert {name for name, model in models.items() if model["state"] == "live"} == members - flawed
        assert {name for name, model in models.items() if model["failed"]} == members & flawed
        code, said = desk.run("fleet", "rollout", str(folder), *QUICK)
        assert (code, "halts: " in said) == (1, True), said
        devices.mend()
        code, said = desk.run("fleet", "rollout", str(folder), *QUICK, "--retry")
        assert (code, "all waves are through" in said) == (0, True), said
        devices.wait(lambda: devices.running(sha256) == set(devices.names), PATIENCE_S)
        with devices.held() as everyone:
            assert all(one.installed == [sha256] for one in everyone.values())


def test_a_group_with_a_box_that_is_away_one_that_joins_late_and_one_that_vanishes_on_trial(
    desk: Desk, broker: Mosquitto, tmp_path: Path
) -> None:
    folder = tmp_path / "digits-2"
    sha256 = folder_of(folder, {"model.onnx": content(2000)}, desk)
    with Devices(broker.port, 12, desk.trust) as devices:
        half, away = set(devices.names[1::2]), "box-0003"
        devices.cut([away])
        waves = ("--waves", "20,100", *QUICK[2:])
        code, said = desk.run("fleet", "rollout", str(folder), "--to", "group:half", *waves)
        assert (code, "100 %: 5 of 6 done, 1 offline" in said) == (0, True), said
        assert devices.running(sha256) == half - {away}

        code, said = desk.run("fleet", "status", "--model", "digits", "--bad")
        assert code == 0
        assert [line.split()[:2] for line in said.splitlines()[1:2]] == [[away, "no"]]
        assert "5 live" in said
        code, said = desk.run("fleet", "show", away)
        assert (code, "offline" in said, "what it said last" in said) == (0, True, True)

        devices.back([away])
        devices.wait(lambda: away in devices.running(sha256))
        devices.add("box-late")
        devices.wait(lambda: devices.heard("box-late"))
        told = boxes_of(desk)
        assert told["box-late"]["models"][0]["state"] == "none"  # it is in no group
        assert told[away]["models"][0]["done"] is True

        # Going back takes no key; nobody but the group hears of it.
        (desk.folder / "keys/deploy.pem").unlink()
        code, said = desk.run("fleet", "pause", "digits")
        assert (code, "[bad_key]" in said) == (1, True), said
        code, said = desk.run("fleet", "undo", "digits")
        assert (code, "group/half goes back" in said) == (0, True), said
        devices.wait(lambda: not devices.running(sha256))


def boxes_of(desk: Desk) -> dict[str, Any]:
    return {box["name"]: box for box in desk.status()["boxes"]}


@pytest.mark.soak
def test_a_broker_that_is_killed_and_comes_back_empty_holds_a_rollout_up_and_no_more(
    desk: Desk, broker: Mosquitto, tmp_path: Path
) -> None:
    folder = tmp_path / "digits-2"
    sha256 = folder_of(folder, {"model.onnx": content(2000)}, desk)
    patient = ("--waves", "20,100", "--soak", "15s", "--every", "500ms")
    with (
        Devices(broker.port, 20, desk.trust) as devices,
        desk.start("fleet", "rollout", str(folder), *patient) as process,
    ):
        devices.wait(lambda: devices.running(sha256) or process.poll() is not None, PATIENCE_S)
        broker.kill()
        broker.start()
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
        assert "trying again" in said
        assert "the broker has lost the order: it is laid down again" in said
        assert said.count("begins") == 1
        assert devices.running(sha256) == set(devices.names)
        with devices.held() as everyone:
            assert all(one.installed == [sha256] for one in everyone.values())


def test_a_broker_with_a_short_queue_hides_no_box(tmp_path: Path) -> None:
    """QoS 1 and a wildcard would find 120 of them."""
    count, said = 1200, b'{"models": [{"name": "digits", "state": "serving", "version": "1"}]}' + b" " * 1000
    (tmp_path / "broker").mkdir()
    with Mosquitto(tmp_path / "broker", "max_queued_messages 100\nlog_dest none") as broker:
        client = Client(CallbackAPIVersion.VERSION2)
        client.max_queued_messages_set(0)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        for number in range(count):
            client.publish(f"edged/box-{number:04}/status", b"online", 1, retain=True)
            client.publish(f"edged/box-{number:04}/info", said, 1, retain=True)
            last = client.publish(f"edged/box-{number:04}/install/digits", b'{"phase": "idle"}' + b" " * 1000, 1, True)
        last.wait_for_publish(60)
        client.loop_stop()
        client.disconnect()
        desk = Desk(tmp_path / "operator", broker.url)
        code, told = desk.run("fleet", "status")
    assert code == 0, told
    assert told.splitlines()[-1] == "digits, no order: 1200 none"
    assert "incomplete" not in told
