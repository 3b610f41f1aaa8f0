"""What can be asked of a box over MQTT: with mosquitto_rr, by whoever may publish there, within push.remote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.box import DIGITS, Box, box
from tests.brokers import Mosquitto
from tests.senders import HttpSender, configuration, push

rr = pytest.mark.skipif(shutil.which("mosquitto_rr") is None, reason="mosquitto_rr is not installed")
QUICK = "probation: {time: 1s, runs: 0}"
V2 = (DIGITS / "digits_v2_int8.onnx").read_bytes()


def ask(broker: Mosquitto, verb: str, body: str = "", *, to: str = "box", version: str = "5") -> dict[str, Any]:
    """mosquitto_rr on a request; with MQTT 5 the answer comes to a response topic of its own."""
    where = "answers/me" if version == "5" else f"edged/box/response/{verb}"
    message = ["-m", body] if body else ["-n"]
    done = subprocess.run(
        [
            *("mosquitto_rr", "-V", version, "-W", "30", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1"),
            *("-t", f"edged/{to}/request/{verb}", "-e", where, *message),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def one(broker: Mosquitto) -> Iterator[Box]:
    text = "groups: [line-2, pi4]\n" + configuration(broker.url, push=QUICK)
    with box(text) as running:
        running.wait(lambda: running.status()["daemon"]["mqtt"]["connected"])
        running.wait(lambda: broker.says("edged/group/pi4/request/+"))
        yield running


@rr
@pytest.mark.parametrize("version", ["5", "311"])
@pytest.mark.parametrize("to", ["box", "all", "group/pi4"])
def test_ping(one: Box, broker: Mosquitto, version: str, to: str) -> None:
    found = ask(broker, "ping", '{"transaction": "t-1"}', to=to, version=version)
    assert (found["status"], found["transaction"]) == ("ok", "t-1")
    assert found["data"]["device"] == "box"
    assert found["data"]["uptime_s"] > 0
    assert ask(broker, "ping", version=version, to=to).keys() == {"status", "data"}


@rr
def test_what_is_not_in_push_remote_is_refused_until_a_reload_adds_it(one: Box, broker: Mosquitto) -> None:
    with HttpSender(one, pause_s=0.002) as http:
        one.wait(lambda: broker.says("edged/box/models/digits/push"))
        push(broker.port, V2)
        one.wait(lambda: (one.model("digits")["install"] or {}).get("verdict") == "active", 60)
        for verb in ("rollback", "reload"):
            found = ask(broker, verb, '{"model": "digits"}')
            assert (found["status"], found["error"]["code"]) == ("error", "forbidden")
            assert f"Add {verb} to push.remote" in found["error"]["hint"]
        assert one.model("digits")["version"] == "2"
        text = one.config.read_text()
        one.config.write_text(text.replace(QUICK, f"{QUICK}\n  remote: [rollback, reload, log]"))
        assert one.request("POST", "/edged/reload")[0] == 200
        assert ask(broker, "reload")["data"]["changed"] == []
        found = ask(broker, "rollback", '{"model": "digits"}', version="311")
        assert (found["status"], found["data"]["active"]["version"]) == ("ok", "1")
        assert one.model("digits")["version"] == "1"
        assert ask(broker, "rollback", '{"model": "absent"}')["error"]["code"] == "unknown_model"
        assert ask(broker, "rollback")["error"]["code"] == "bad_input"
        assert ask(broker, "rollback", '{"model": 7}')["error"]["code"] == "bad_input"
        assert ask(broker, "ping")["error"]["code"] == "forbidden"
        one.config.write_text("models: {digits: {fil: x}}")
        assert ask(broker, "reload")["error"]["code"] == "bad_config"
        log = ask(broker, "log", '{"most": 3}')["data"]
        assert [entry["event"] for entry in log["entries"]] == [
            "rolled_back",
            "rollback_refused",
            "reload_refused",
        ]
        assert {entry["by"] for entry in log["entries"]} == {
            "MQTT edged/box/request/rollback",
            "MQTT edged/box/request/reload",
        }
    assert (http.lost, http.errors) == (0, [])


@rr
def test_log_install_and_what_there_is_not(one: Box, broker: Mosquitto) -> None:
    found = ask(broker, "log", '{"since": "1h"}')["data"]
    assert [entry["event"] for entry in found["entries"]] == ["started"]
    assert (found["more"], found["problems"]) == (False, [])
    assert ask(broker, "log", '{"model": "digits"}')["data"]["entries"] == []
    for body in ('{"since": "yesterday"}', '{"most": 0}', '{"most": true}', '{"model": []}', "[1]", "{"):
        assert ask(broker, "log", body)["error"]["code"] == "bad_input"
    found = ask(broker, "install", '{"transaction": 3}')
    assert (found["error"]["code"], found["transaction"]) == ("bad_input", 3)
    found = ask(broker, "reboot")
    assert found["error"]["code"] == "not_found"
    assert "ping" in found["error"]["hint"]
    audit = one.folder / "state" / "audit.jsonl"
    audit.write_bytes(audit.read_bytes().replace(b"has started", b"had started"))
    assert ask(broker, "log")["data"]["problems"] == ["entry 1 was changed"]


@rr
def test_groups_follow_a_reload(one: Box, broker: Mosquitto) -> None:
    one.config.write_text(one.config.read_text().replace("pi4", "pi5"))
    assert "groups" in json.loads(one.request("POST", "/edged/reload")[1])["settings"]
    one.wait(lambda: broker.says("edged/group/pi5/request/+"))
    assert ask(broker, "ping", to="group/pi5")["status"] == "ok"
    one.wait(lambda: broker.says("Received UNSUBSCRIBE"))


def test_a_broker_that_forbids_the_requests_to_all_takes_nothing_else_away(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite edged/box/#\ntopic read cells/#\ntopic write cells/#\n")
    acl.chmod(0o600)
    (tmp_path / "broker").mkdir()
    if os.geteuid() != 0 and shutil.which("mosquitto") is None:
        pytest.skip("mosquitto is not installed")
    with Mosquitto(tmp_path / "broker", f"acl_file {acl}") as broker, box(configuration(broker.url)) as one:
        one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
        one.wait(lambda: broker.says("cells/+/scan"))
        with HttpSender(one) as http:
            one.wait(lambda: http.answers > 10)
        assert one.status()["daemon"]["mqtt"]["connected"]
        if shutil.which("mosquitto_rr"):
            assert ask(broker, "ping", version="311")["status"] == "ok"
