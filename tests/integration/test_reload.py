"""The configuration changes while inputs come: models come, go and change, and nothing is lost."""

from __future__ import annotations

import json
import os
import platform
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.box import DIGITS, ROOT, Box, box
from tests.brokers import Mosquitto
from tests.senders import HttpSender, MqttSender, configuration, push, scans
from tests.waiting import until

V1 = DIGITS / "digits_v1_int8.onnx"
V2 = DIGITS / "digits_v2_int8.onnx"
QUICK = "probation: {time: 1s, runs: 0}"
OTHER = """
  other:
    file: {file}
    inputs: [{{topic: other/scan, format: values}}]
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    postprocess: [softmax, argmax]
    {more}
"""


def with_other(text: str, more: str = "", file: Path = V1) -> str:
    """The configuration with a second model."""
    return text.replace("\npush:", OTHER.format(file=file, more=more) + "\npush:", 1)


def hup(one: Box, event: str = "reloaded") -> dict[str, Any]:
    """SIGHUP, as systemctl reload sends it; returns how the status tells of it."""
    before = one.status()["daemon"]["reload"]
    assert one.process is not None
    one.process.send_signal(signal.SIGHUP)
    one.wait(lambda: one.status()["daemon"]["reload"] not in (None, before), 60)
    found: dict[str, Any] = one.status()["daemon"]["reload"]
    assert ("not reloaded" in found["message"]) is (event == "reload_refused"), found
    return found


def post(one: Box, path: str = "/edged/reload") -> tuple[int, dict[str, Any]]:
    code, body, _ = one.request("POST", path)
    return code, json.loads(body)


class Listener:
    """Every message of the box, by topic, and the retained ones that are there now."""

    def __init__(self, port: int) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self.retained: dict[str, bytes] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe([("edged/#", 1), ("other/#", 1), ("late/#", 1)])
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _take(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self.seen.append((message.topic, bytes(message.payload)))
        if message.topic.startswith("edged/") and ("/status" in message.topic or "/install" in message.topic):
            self.retained[message.topic] = bytes(message.payload)

    def publish(self, topic: str, payload: str | bytes) -> None:
        self._client.publish(topic, payload, 1).wait_for_publish(10)

    def send(self, topic: str, payload: str) -> paho.MQTTMessageInfo:
        """At QoS 1, without waiting."""
        return self._client.publish(topic, payload, 1)

    def on(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for found, payload in self.seen if found == topic and payload]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def listener(broker: Mosquitto) -> Any:
    one = Listener(broker.port)
    yield one
    one.close()


def test_models_come_and_go_and_change_under_load_and_nothing_is_lost(broker: Mosquitto, listener: Listener) -> None:
    text = configuration(broker.url, push=QUICK)
    with box(text) as one:
        senders = [MqttSender(broker.port, "a", pause_s=0.002), HttpSender(one, pause_s=0.002)]
        with senders[0], senders[1]:
            one.wait(lambda: one.model("digits")["requests"] > 100)
            first = one.model("digits")["pid"]
            # A model comes: the other one is not touched.
            one.config.write_text(with_other(text))
            assert "added other" in hup(one)["message"]
            assert one.model("other")["state"] == "serving"
            assert one.model("digits")["pid"] == first
            # The subscription follows.
            until(lambda: b"serving" in listener.retained.get("edged/box/models/other/status", b""))
            deadline_s = time.monotonic() + 20
            while not listener.on("edged/box/models/other/result") and time.monotonic() < deadline_s:
                listener.publish("other/scan", json.dumps([1] * 64))
                time.sleep(0.05)
            assert listener.on("edged/box/models/other/result")
            # It changes: a process of its own takes over, the other model keeps its one.
            theirs = one.model("other")["pid"]
            one.config.write_text(with_other(text, "threads: 2"))
            assert "changed other" in hup(one)["message"]
            assert one.model("other")["pid"] != theirs
            assert one.model("digits")["pid"] == first
            # The one under load changes, again and again.
            for round_ in range(4):
                change = "limits: {memory: 300MiB}" if round_ % 2 == 0 else "batch: {max: 4}"
                one.config.write_text(with_other(text.replace("    \npush", f"    {change}\npush"), "threads: 2"))
                assert "changed digits" in hup(one)["message"]
            assert one.model("digits")["pid"] != first
            # And one goes.
            one.config.write_text(text.replace("    \npush", f"    {change}\npush"))
            assert "removed other" in hup(one)["message"]
            assert [model["name"] for model in one.status()["models"]] == ["digits"]
            assert one.request("GET", "/v2/models/other")[0] == 404
            assert post(one)[1]["changed"] == []  # what the file says is what runs
            so_far = one.model("digits")["requests"]
            one.wait(lambda: one.model("digits")["requests"] > so_far + 100)
        assert [sender.lost for sender in senders] == [0, 0]
        assert [sender.errors for sender in senders] == [[], []]
        assert isinstance(senders[0], MqttSender)
        assert senders[0].order == list(range(senders[0].sent))
        assert one.model("digits")["restarts"] == 0
        assert one.model("digits")["requests"] >= sum(sender.sent for sender in senders)
        until(lambda: listener.retained["edged/box/models/other/status"] == b"")
        assert len(one.workers()) == 1


def test_an_invalid_file_changes_nothing_and_says_so_everywhere(broker: Mosquitto, listener: Listener) -> None:
    text = configuration(broker.url, push=QUICK)
    with box(text) as one, HttpSender(one, pause_s=0.002) as http:
        one.wait(lambda: http.answers > 20)
        pid = one.model("digits")["pid"]
        one.config.write_text(
            text.replace("postprocess", "postproces").replace("require_signature: false", "max_size: 1")
        )
        found = hup(one, "reload_refused")
        assert found["code"] == "bad_config"
        assert "edged.yaml:" in found["message"]
        assert "did you mean postprocess?" in found["message"]
        assert "push.max_size" in found["message"]
        until(lambda: one.tail().count("did you mean postprocess?") == 2)  # its own line, and the reload's
        until(lambda: any("reload_refused" in json.dumps(event) for event in listener.on("edged/box/event")))
        until(
            lambda: any(
                (info.get("reload") or {}).get("code") == "bad_config" for info in listener.on("edged/box/info")
            )
        )
        info = listener.on("edged/box/info")[-1]
        assert (info["python"], info["onnxruntime"]) == (platform.python_version(), onnxruntime.__version__)
        code, answer = post(one)
        assert (code, answer["code"]) == (500, "bad_config")
        shown = subprocess.run(
            [sys.executable, "-m", "edged", "status", "--socket", str(one.socket)],
            env=one.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "[bad_config]" in shown.stdout
        assert one.model("digits")["pid"] == pid
        one.config.write_text(text)
        assert post(one)[0] == 200
        assert one.status()["daemon"]["reload"]["code"] == ""
        assert one.model("digits")["pid"] == pid
    assert (http.lost, http.errors) == (0, [])


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda text: text.replace("device: box", "device: other"), "needs_restart", "device"),
        (lambda text: text.replace("mqtt: {", "mqtt: {base: plant, "), "needs_restart", "mqtt.base"),
        (lambda text: text + "\nsockets: {unix: /tmp/other.sock}\n", "needs_restart", "sockets.unix"),
        (lambda text: text.replace("reshape: [1, 8, 8]", "reshape: [1, 9, 9]"), "bad_config", "models.digits"),
        (  # what was started for a change of the one that can be is not kept
            lambda text: with_other(text.replace("8, 8]}", "8, 8]}, {scale: 1}"), file=ROOT / "README.md"),
            "not_a_model",
            "models.other",
        ),
        (lambda text: with_other(text, file=ROOT / "absent.onnx"), "bad_config", "models.other"),
    ],
)
def test_what_cannot_be_is_refused_as_a_whole(
    broker: Mosquitto, change: Callable[[str], str], code: str, says: str
) -> None:
    text = configuration(broker.url, push=QUICK)
    with box(text) as one:
        one.wait(lambda: broker.says("edged/box/models/digits/push"))
        before = {process.pid for process in one.workers()}
        changed = change(text).replace("require_signature: false", "require_signature: true")
        one.config.write_text(changed)
        found = post(one)[1]
        assert found["code"] == code, found
        assert says in found["error"]
        until(lambda: {process.pid for process in one.workers()} == before)
        push(broker.port, V2.read_bytes())  # the push settings are the old ones too
        one.wait(lambda: one.model("digits")["version"] == "2", 60)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: with_other(text, file=ROOT / "README.md").replace("  other:", "  third:"),
        lambda text: text.replace("reshape: [1, 8, 8]", "reshape: [1, 9, 9]", 1),
    ],
    ids=["another model cannot be", "it cannot be itself"],
)
def test_a_refused_reload_costs_a_model_on_probation_no_attempt(
    broker: Mosquitto, change: Callable[[str], str]
) -> None:
    text = configuration(broker.url, push="probation: {time: 1h, runs: 0}")
    with box(text) as one:

        def record() -> dict[str, Any]:
            found: dict[str, Any] = json.loads((one.folder / "state" / "state.json").read_text())["models"]["digits"]
            return found

        one.wait(lambda: broker.says("edged/box/models/digits/push"))
        push(broker.port, V2.read_bytes())
        one.wait(lambda: (one.model("digits")["install"] or {}).get("phase") == "probation", 60)
        without = with_other(text)
        one.config.write_text(without[: without.index("  digits:")] + without[without.index("  other:") :])
        assert post(one)[0] == 200
        before = record()
        assert (before["phase"], before.get("attempts", 0)) == ("probation", 0)
        one.config.write_text(change(text))
        for _ in range(2):
            assert post(one)[1]["code"] in {"not_a_model", "bad_config"}
            assert record() == before
        one.config.write_text(text)
        assert post(one)[0] == 200
        assert one.model("digits")["version"] == "2"
        assert record()["attempts"] == 1


def test_check_asks_the_running_daemon(broker: Mosquitto) -> None:
    text = configuration(broker.url, push=QUICK)
    with box(text) as one:

        def check() -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "edged", "check", "--config", str(one.config), "--reload"]
            return subprocess.run(command, env=one.environment, capture_output=True, text=True, timeout=60)

        assert check().returncode == 0
        one.config.write_text(text.replace("mqtt: {", "mqtt: {base: plant, "))
        done = check()
        assert done.returncode == 1
        assert "mqtt.base cannot change while edged runs [needs_restart]" in done.stderr
        assert "systemctl restart edged" in done.stderr
        one.config.write_text(text)
        one.stop()
        assert "[no_daemon]" in check().stderr


def test_a_model_on_probation_stays_on_it_and_a_pushed_version_stays_live(broker: Mosquitto) -> None:
    text = configuration(broker.url, push="probation: {time: 3s, runs: 0}")
    with box(text) as one, HttpSender(one, pause_s=0.002) as http:
        one.wait(lambda: http.answers > 20 and broker.says("edged/box/models/digits/push"))
        push(broker.port, V2.read_bytes())
        one.wait(lambda: (one.model("digits")["install"] or {}).get("phase") == "probation", 60)
        pid = one.model("digits")["pid"]
        one.config.write_text(with_other(text.replace("    \npush", "    threads: 2\npush")))
        hup(one)
        assert one.model("digits")["pid"] != pid
        assert one.model("digits")["version"] == "2"
        one.wait(lambda: one.model("digits")["install"]["verdict"] == "active", 60)
        assert one.request("POST", "/edged/models/digits/rollback")[0] == 200
        assert one.model("digits")["version"] == "1"
        one.config.write_text(text)
        hup(one)
        assert one.model("digits")["version"] == "1"
    assert (http.lost, http.errors) == (0, [])


def test_a_push_is_taken_by_the_new_settings_and_by_a_new_model(broker: Mosquitto) -> None:
    watched = "probation: {time: 1h, runs: 0}"
    text = configuration(broker.url, push=watched).replace("require_signature: false", "require_signature: true")
    with box(text) as one:
        one.wait(lambda: broker.says("edged/box/models/digits/push"))
        push(broker.port, V2.read_bytes())
        one.wait(lambda: (one.model("digits")["install"] or {}).get("code") == "unsigned")
        one.config.write_text(
            configuration(broker.url, push=f"max_size: 1MiB\n  {QUICK}").replace("digits:", "fresh:", 1)
        )
        found = hup(one)["message"]
        assert "push.require_signature" in found
        assert "added fresh; removed digits" in found
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()

        def pushed() -> bool:
            client.publish("edged/box/models/fresh/push", V2.read_bytes(), 1).wait_for_publish(10)
            return one.model("fresh")["install"] is not None and one.model("fresh")["version"] == "2"

        one.wait(pushed, 60)
        one.wait(lambda: one.model("fresh")["install"]["verdict"] == "active", 60)  # not after an hour
        client.disconnect()
        client.loop_stop()


def test_that_a_push_needs_no_signature_shows_in_every_status(broker: Mosquitto, listener: Listener) -> None:
    def shown() -> list[object]:
        topics = [f"edged/box/{one}" for one in ("models/digits/status", "install/digits")]
        documents = [json.loads(listener.retained.get(topic, b"{}")) for topic in topics]
        return ["unsigned_ok" in found.get("flags", []) for found in (*documents, one.status()["daemon"])]

    unsigned = configuration(broker.url, push=QUICK)
    signed = unsigned.replace("require_signature: false", "require_signature: true")
    assert signed != unsigned
    with box(unsigned) as one:
        until(lambda: shown() == [True] * 3)
        one.config.write_text(signed)
        hup(one)
        until(lambda: shown() == [False] * 3)


def test_a_factory_file_with_another_content_is_taken_up(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    shutil.copy(V1, file)
    with box(f"device: box\nmodels:\n  digits: {{file: {file}}}\n  same: {{file: {V1}}}\n") as one:
        before = one.model("digits")
        same = one.model("same")["pid"]
        assert post(one)[1] == {"added": [], "removed": [], "changed": [], "settings": [], "restart": []}
        assert one.model("digits")["pid"] == before["pid"]
        shutil.copy(V2, file)
        assert post(one)[1]["changed"] == ["digits"]
        now = one.model("digits")
        assert now["sha256"] != before["sha256"]
        assert one.model("same")["pid"] == same
        one.wait(lambda: {worker.pid for worker in one.workers()} == {now["pid"], same})  # nothing is kept warm


def test_a_factory_file_that_is_not_there_at_the_start_is_a_failed_model_until_it_comes(tmp_path: Path) -> None:
    """A disk that is mounted late, say. It waits for no push: the configuration names a file."""
    file = tmp_path / "m.onnx"
    with box(f"device: box\nmodels:\n  digits: {{file: {file}}}\n  same: {{file: {V1}}}\n") as one:
        model = one.model("digits")
        assert (model["state"], model["fault"]["code"]) == ("failed", "bad_store")
        assert f"its file {file} cannot be read" in model["fault"]["message"]
        assert "reload" in model["fault"]["hint"]
        assert one.request("GET", "/v2/health/ready")[0] != 200
        code, answer = post(one)
        assert (code, answer["code"]) == (500, "bad_config")
        shutil.copy(V1, file)
        assert post(one)[1]["changed"] == ["digits"]
        assert (one.model("digits")["state"], one.model("digits")["fault"]) == ("serving", None)
        assert one.request("GET", "/v2/health/ready")[0] == 200


def test_inputs_that_a_removed_model_has_taken_are_answered(broker: Mosquitto, listener: Listener) -> None:
    """More inputs than its queue holds, half of them before the reload: each of these gets an answer or an error."""
    text = configuration(broker.url, push=QUICK, model="queue: {size: 8}")
    without = with_other(text)
    without = without[: without.index("  digits:")] + without[without.index("  other:") :]
    with box(text) as one:
        until(lambda: ("edged/box/status", b"online") in listener.seen)
        one.config.write_text(without)
        payload = json.dumps({"pixels": scans()[0][1]})
        for number in range(300):
            sent = listener.send(f"edged/box/models/digits/infer/n{number}", payload)
        sent.wait_for_publish(30)  # then the broker has all of them, for the box that has subscribed
        one.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
        for number in range(300, 600):
            listener.send(f"edged/box/models/digits/infer/n{number}", payload)
        one.wait(lambda: one.status()["daemon"]["reload"] is not None)
        assert "removed digits" in one.status()["daemon"]["reload"]["message"]

        def answered() -> set[str]:
            prefixes = ("edged/box/models/digits/result/", "edged/box/models/digits/error/")
            return {topic.rpartition("/")[2] for topic, _ in listener.seen if topic.startswith(prefixes)}

        # What reaches the broker when the box has unsubscribed is the broker's to drop: a tail of the numbers.
        until(lambda: answered() >= {f"n{number}" for number in range(300)})
        listener.publish("other/scan", json.dumps([1] * 64))
        until(lambda: listener.on("edged/box/models/other/result"))
        numbers = sorted(int(name[1:]) for name in answered())
        assert numbers == list(range(len(numbers)))
        assert one.request("GET", "/v2/models/digits")[0] == 404


def test_the_end_of_the_terminal_is_still_a_clean_stop() -> None:
    with box(f"device: box\nmodels:\n  digits: {{file: {V1}}}\n", start=False) as one:
        pid, terminal = pty.fork()
        if pid == 0:
            command = [sys.executable, "-m", "edged", "run", "--config", str(one.config)]
            os.execve(sys.executable, command, one.environment)  # noqa: S606 - as a shell in that terminal would
        until(one.socket.exists, 60)
        one.wait_ready(60)
        os.kill(pid, signal.SIGHUP)
        one.wait(lambda: one.status()["daemon"]["reload"] is not None)
        os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert not one.socket.exists()


def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(30)
        with box(f"device: box\nmodels:\n  digits: {{file: {V1}}}\n", start=False) as one:
            one.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
            one.start()
            hup(one)
            one.config.write_text("device: 7 7\n")
            hup(one, "reload_refused")
            one.stop()
        told: list[str] = []
        while not told or "STOPPING=1" not in told[-1]:
            told.append(notify.recv(65536).decode())
    reloads = [one for one in told if "RELOADING" in one or "READY=1" in one]
    assert [("RELOADING=1" in one, "READY=1" in one) for one in reloads] == [
        (False, True),
        (True, False),
        (False, True),
        (True, False),
        (False, True),
    ]
    assert all("MONOTONIC_USEC=" in one for one in reloads if "RELOADING" in one)
    assert "not reloaded" in reloads[-1]
