"""`edged doctor` beside a real daemon and real brokers: what is well is said to be, and what is not has a hint."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edged import cli
from tests import disks
from tests.box import DIGITS, box
from tests.brokers import Mosquitto, have_mosquitto
from tests.ports import free_port

needs_mosquitto = pytest.mark.skipif(
    not have_mosquitto(), reason="Mosquitto is not installed; scripts/test installs it"
)
MODELS = f"models: {{digits: {{file: {DIGITS / 'digits_v1_int8.onnx'}}}}}\n"


def findings(configuration: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, Any]]]:
    (folder / "edged.yaml").write_text(configuration)
    code = cli.main(["doctor", "--json", "--config", str(folder / "edged.yaml")])
    return code, json.loads(capsys.readouterr().out)


def of(found: list[dict[str, Any]], what: str) -> list[tuple[str, str]]:
    return [(one["level"], one["said"]) for one in found if one["what"] == what]


@needs_mosquitto
def test_a_box_that_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Mosquitto(tmp_path) as broker:
        text = f'device: box\nmqtt: {{url: "{broker.url}"}}\n{MODELS}'
        with box(text) as one:
            one.wait_ready()
            one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
            _, found = findings(f"{text}sockets: {{unix: {one.socket}}}\n", tmp_path, capsys)
    assert of(found, "configuration")[0][0] == "ok"
    assert of(found, "model") == [("ok", "digits: serving version 1")]
    ((level, said),) = of(found, "broker")
    assert level == "ok"
    assert "MQTT 5" in said
    assert {level for level, _ in [*of(found, "daemon"), *of(found, "onnxruntime")]} == {"ok"}
    assert of(found, "telemetry")[0][0] != "bad"


@needs_mosquitto
def test_what_is_wrong_with_a_broker_is_said_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Mosquitto(tmp_path, "max_packet_size 50000\nretain_available false") as broker:
        gone = f"mqtt://127.0.0.1:{free_port()}"
        text = f'device: box\nmqtt: {{url: ["{gone}", "{broker.url}"]}}\nsockets: {{unix: {tmp_path}/e.sock}}\n'
        code, found = findings(text, tmp_path, capsys)
    assert code == 1
    said = [one for one in found if one["what"] == "broker"]
    assert [one["level"] for one in said] == ["bad", "ok", "bad", "bad"]
    assert said[0]["said"].count(gone) == 1
    assert "fleet.yaml" not in said[0]["hint"]  # which is the operator's
    assert "50000 bytes" in said[2]["said"]
    assert "max_packet_size" in said[2]["hint"]
    assert "retain_available" in said[3]["hint"]


def test_without_a_daemon_that_is_said_and_the_rest_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"device: box\nsockets: {{unix: {tmp_path}/nobody.sock}}\n"
    _, found = findings(text, tmp_path, capsys)
    assert of(found, "daemon")[0][0] == "note"
    assert {"disk", "memory", "clock", "onnxruntime", "telemetry"} <= {one["what"] for one in found}


def test_a_configuration_with_mistakes_is_bad_and_the_box_is_looked_at_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = findings("devise: box\n", tmp_path, capsys)
    assert code == 1
    ((level, said),) = of(found, "configuration")
    assert level == "bad"
    assert "did you mean device?" in said
    assert of(found, "disk")
    assert of(found, "broker") == []  # nobody knows whether there is one


def test_a_state_that_may_only_be_read_is_no_matter_of_sudo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with disks.small(tmp_path, 1) as state:
        monkeypatch.setenv("STATE_DIRECTORY", str(state))
        subprocess.run(["mount", "-o", "remount,ro", state], check=True)
        _, found = findings(f"device: box\nsockets: {{unix: {tmp_path}/nobody.sock}}\n", tmp_path, capsys)
    assert ("bad", f"{state} is read-only") in of(found, "disk")
    assert not [one for one in found if "sudo" in one["hint"]]


def test_a_root_of_trust_that_is_none_is_a_mistake_of_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trust.json").write_text("{}")
    text = f"device: box\nsockets: {{unix: {tmp_path}/nobody.sock}}\npush: {{trust: trust.json}}\n"
    code, found = findings(text, tmp_path, capsys)
    assert code == 1
    ((level, said),) = of(found, "configuration")
    assert level == "bad"
    assert "push.trust" in said


def test_what_was_not_tried_is_not_said_to_be_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.onnx").write_text("no model")
    text = f"device: box\nsockets: {{unix: {tmp_path}/nobody.sock}}\nmodels: {{m: {{file: m.onnx}}}}\n"
    _, found = findings(text, tmp_path, capsys)
    said = f"{tmp_path}/edged.yaml is valid; whether its models load, `edged check` tries"
    assert of(found, "configuration") == [("ok", said)]


def test_a_secret_that_everybody_may_read_is_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of those that the configuration names: its own certificate is none, nor is what lies beside it."""
    names = ("cert.pem", "key.pem", "both.pem", "mqtt-password", "token", "ca.pem")
    for name in (*names, "another.key", "old-password"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o644)
    text = f"""\
device: box
mqtt: {{url: "mqtts://127.0.0.1:{free_port()}", username: u, password_file: mqtt-password, cert: both.pem, ca: ca.pem}}
sockets: {{unix: {tmp_path}/nobody.sock, token_file: token, tls: {{cert: cert.pem, key: key.pem}}}}
"""
    code, found = findings(text, tmp_path, capsys)
    assert code == 1
    secret = [tmp_path / name for name in ("mqtt-password", "both.pem", "token", "key.pem")]
    assert of(found, "permissions") == [("bad", f"{file} may be read by everybody") for file in secret]
    for file in secret:
        file.chmod(0o640)
    _, found = findings(text, tmp_path, capsys)
    assert of(found, "permissions") == []


def test_limits_beyond_the_memory_are_to_be_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    each = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2**21 + 1024}MiB"  # half of it, and a GiB
    models = "".join(f"  m{number}: {{limits: {{memory: {each}}}}}\n" for number in range(2))
    text = f"device: box\nsockets: {{unix: {tmp_path}/nobody.sock}}\nmodels:\n{models}"
    _, found = findings(text, tmp_path, capsys)
    assert of(found, "configuration")[0][0] == "ok"
    assert of(found, "memory")[0][0] == "note"


def test_people_read_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "edged.yaml").write_text(f"device: box\nsockets: {{unix: {tmp_path}/nobody.sock}}\n")
    cli.main(["doctor", "--config", str(tmp_path / "edged.yaml")])
    lines = capsys.readouterr().out.splitlines()
    assert f"ok    configuration  {tmp_path / 'edged.yaml'} is valid" in lines


def test_a_state_that_was_damaged_is_told_and_so_it_is_in_the_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with box(MODELS, start=False) as one:
        state = one.folder / "state"
        state.mkdir()
        (state / "state.json").write_bytes(b"half")
        one.start()
        assert one.model("digits")["state"] == "serving"
        one.stop()
        lines = [json.loads(line) for line in (state / "audit.jsonl").read_text().splitlines()]
        ((code, message),) = [(line["code"], line["message"]) for line in lines if line["event"] == "damaged"]
        assert code == "bad_store"
        assert "state.json.damaged now: what was known of the models, holds and wants is lost" in message
        monkeypatch.setenv("STATE_DIRECTORY", str(state))
        _, found = findings(MODELS, tmp_path, capsys)
    assert ("bad", f"{state}/state.json.damaged is what is left of a file that was damaged") in of(found, "disk")
