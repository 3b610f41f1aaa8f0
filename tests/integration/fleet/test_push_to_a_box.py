"""`edged push` and a real box: a daemon of its own, a real Mosquitto, the example's models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edged import cli
from edged.topics import Ota
from edged.transports.mqtt.retained import Put
from tests.box import DIGITS, Box, box
from tests.brokers import Mosquitto
from tests.integration.fleet.machines import Machine, Watcher

OTA = Ota("edged")


@pytest.fixture
def machine(tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "fleet", broker, monkeypatch)


@pytest.fixture
def press(machine: Machine) -> Iterator[Box]:
    """A box with the first model, not started yet; a probation takes no time."""
    configuration = f"""
device: press-07
groups: [line-2]
mqtt: {{url: "{machine.broker.url}"}}
models:
  digits: {{file: {DIGITS / "digits_v1_int8.onnx"}}}
push: {{trust: {machine.folder / "trust.json"}, probation: {{time: 200ms, runs: 0}}}}
"""
    with box(configuration, start=False) as one:
        yield one


def released(machine: Machine, version: int, chunk: str = "4KiB") -> Path:
    folder = machine.folder / f"digits-{version}"
    words = ["--model", "digits", "--version", str(version), "--chunk", chunk, "--out", str(folder)]
    assert cli.main(["release", str(DIGITS / "digits_v2_int8.onnx"), *words]) == 0
    return folder


def version(one: Box) -> str:
    found: str = one.model("digits")["version"]
    return found


def test_a_release_is_live_when_the_command_says_so(
    machine: Machine, press: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    press.start()
    folder = released(machine, 2)
    assert machine.push(folder, "--to", "group:line-2", "--wait=60s") == 0
    assert version(press) == "2"
    assert "press-07: runs version 2" in capsys.readouterr().out
    assert machine.push(folder, "--to", "group:line-2", "--wait=60s") == 0
    assert "nothing to order" in capsys.readouterr().out


def test_a_box_that_refuses_is_the_answer_no(machine: Machine, press: Box, capsys: pytest.CaptureFixture[str]) -> None:
    press.start()
    assert machine.push(released(machine, 2), "--to", "all", "--wait=60s") == 0
    assert machine.push(released(machine, 1), "--to", "all", "--wait=60s") == 1
    told = capsys.readouterr().out
    assert "[downgrade]" in told
    assert "1 failed" in told
    assert version(press) == "2"


def test_a_box_gets_its_pieces_from_a_broker_that_keeps_none(machine: Machine, press: Box, broker: Mosquitto) -> None:
    press.start()
    assert machine.push(released(machine, 2), "--to", "all", "--serve", "--wait=90s") == 0
    assert version(press) == "2"
    assert Watcher(broker).kept("edged/ota/blob/#") == {}


def test_ota_F10_a_broker_that_lost_everything_is_filled_by_the_same_command(
    machine: Machine, press: Box, broker: Mosquitto
) -> None:
    folder = released(machine, 2)
    watcher = Watcher(broker)
    assert machine.push(folder, "--to", "all") == 0
    for topic in watcher.kept("edged/ota/blob/#"):
        watcher.put(Put(topic, b""))
    press.start()
    status = "edged/press-07/install/digits"
    press.wait(lambda: b'"downloading"' in watcher.kept(status).get(status, b""))
    broker.kill()
    broker.start()
    assert version(press) == "1"
    assert machine.push(folder, "--to", "all", "--wait=90s") == 0
    assert version(press) == "2"


def test_ota_F49_F52_a_box_that_was_away_installs_the_newest_alone(machine: Machine, press: Box) -> None:
    """What is left over of the releases between is not even asked for."""
    for number in (2, 3, 4):
        assert machine.push(released(machine, number, f"{number}KiB"), "--to", "all") == 0
    press.start()
    press.wait(lambda: version(press) == "4")
    audit = press.folder / "state" / "audit.jsonl"
    press.wait(lambda: '"committed"' in audit.read_text())
    told = [line for line in audit.read_text().splitlines() if '"model":"digits"' in line]
    assert told
    assert all('"version":"4"' in line for line in told)


def test_a_ban_is_published_by_itself_and_the_box_goes_back(
    machine: Machine, press: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    press.start()
    folder = released(machine, 2)
    assert machine.push(folder, "--to", "all", "--wait=60s") == 0
    assert cli.main(["trust", "ban", str(folder), "--reason", "it sees ghosts"]) == 0
    assert cli.main(["trust", "publish"]) == 0
    assert "the broker has trust version 2" in capsys.readouterr().out
    press.wait(lambda: version(press) == "1")
    press.wait(lambda: press.model("digits")["install"]["code"] == "banned")
    assert machine.push(folder, "--to", "all") == 1
