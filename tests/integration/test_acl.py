"""`edged acl` with the broker that it is written for: what it prints is enough for all that a box does, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged import cli
from tests.box import DIGITS, box
from tests.brokers import Mosquitto, have_mosquitto
from tests.clients.mqtt import collect
from tests.integration.mqtt.box import User

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed; scripts/test installs it")

CONFIGURATION = """
device: press-07
groups: [line-2]
mqtt: {{url: "{url}", username: seven}}
models:
  digits:
    file: {file}
    inputs: [{{topic: cells/+cell/scan, format: values}}]
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    output: {{topic: "shown/{{cell}}/digit"}}
"""
EVERYBODY_ELSE = "user tester\ntopic readwrite #\n"


def printed(configuration: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["acl", "--config", str(configuration)]) == 0
    return capsys.readouterr().out


def test_the_rights_that_it_prints_are_enough_and_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broker = Mosquitto(tmp_path, f"acl_file {tmp_path / 'acl'}")
    text = CONFIGURATION.format(url=broker.url, file=DIGITS / "digits_v1_int8.onnx")
    (tmp_path / "edged.yaml").write_text(text)
    rights = printed(tmp_path / "edged.yaml", capsys)
    (tmp_path / "acl").write_text(rights + EVERYBODY_ELSE)
    (tmp_path / "acl").chmod(0o600)
    with broker, box(text) as one:
        one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
        with User(broker.port, "shown/#", "edged/press-07/#", auth=("tester", None)) as user:
            scan = "[" + ",".join(["3"] * 64) + "]"
            user.send("cells/4/scan", scan)
            collect(user, "shown/4/digit", 1)
            user.send("edged/group/line-2/request/ping", "")
            user.send("edged/all/request/ping", "")
            collect(user, "edged/press-07/response/ping", 2)
        with (
            User(broker.port, "cells/#", auth=("seven", None)) as thief,
            User(broker.port, auth=("tester", None)) as user,
        ):
            thief.send("shown/4/other", "not mine to say")
            user.send("cells/4/secret", "not for it")
            user.send("cells/4/scan", scan)
            collect(thief, "cells/4/scan", 1)
            assert thief.on("cells/4/secret") == []


@pytest.mark.parametrize(
    ("more", "line", "present"),
    [
        ("", "topic read edged/ota/#", False),
        ("push: {trust: TRUST}", "topic read edged/ota/#", True),
        ("", "user seven", True),
        ("", "topic read cells/+/scan", True),
        ("", "topic write shown/+/digit", True),
        ("", "topic read edged/group/line-2/request/+", True),
    ],
)
def test_each_right_has_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, line: str, present: bool
) -> None:
    (tmp_path / "trust.json").write_text("{}")
    text = CONFIGURATION.format(url="mqtt://b", file=DIGITS / "digits_v1_int8.onnx") + more.replace(
        "TRUST", str(tmp_path / "trust.json")
    )
    (tmp_path / "edged.yaml").write_text(text)
    assert (line in printed(tmp_path / "edged.yaml", capsys).splitlines()) is present


def test_another_broker_for_pushes_has_a_section_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trust.json").write_text("{}")
    text = CONFIGURATION.format(url="mqtt://b", file=DIGITS / "digits_v1_int8.onnx")
    text += f"push: {{trust: {tmp_path / 'trust.json'}, mqtt: {{url: 'mqtt://c'}}}}"
    (tmp_path / "edged.yaml").write_text(text)
    data, pushes = printed(tmp_path / "edged.yaml", capsys).split("\n\n")
    assert "edged/ota" not in data
    assert pushes.splitlines()[1:] == [
        "user press-07",
        "topic readwrite edged/press-07/#",
        "topic read edged/ota/#",
    ]


def test_without_a_broker_there_is_nothing_to_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "edged.yaml").write_text("device: press-07")
    assert cli.main(["acl", "--config", str(tmp_path / "edged.yaml")]) == 1
    assert "no section mqtt" in capsys.readouterr().out
