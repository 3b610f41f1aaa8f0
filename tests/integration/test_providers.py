"""What a model runs on where there is no GPU: it falls back and says so everywhere, or it is failed, as configured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edged import cli
from tests.box import DIGITS, Box, box
from tests.brokers import Mosquitto
from tests.senders import HttpSender, configuration
from tests.waiting import until

NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1"}  # for a machine that has one
EITHER = "providers: [cuda, cpu]"
ALONE = "providers: [cuda]"


def plain(model: str = "") -> str:
    return f"""
device: box
models:
  digits:
    file: {DIGITS / "digits_v1_int8.onnx"}
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    postprocess: [softmax, argmax]
    {model}
"""


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NO_GPU.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def said(broker: Mosquitto) -> Iterator[dict[str, Any]]:
    """The box's info and model status as they are retained now, and its `events`."""
    found: dict[str, Any] = {"events": []}

    def take(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        word = message.topic.rpartition("/")[2]
        body = json.loads(message.payload)
        if word == "event":
            found["events"] += body["events"]
        else:
            found[word] = body

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, *_: client.subscribe(
        [(f"edged/box/{one}", 1) for one in ("info", "event", "models/digits/status")]
    )
    client.on_message = take
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    yield found
    client.disconnect()
    client.loop_stop()


def reload(one: Box, text: str) -> tuple[int, dict[str, Any]]:
    one.config.write_text(text)
    code, body, _ = one.request("POST", "/edged/reload")
    return code, json.loads(body)


def test_a_fallback_is_told_everywhere(broker: Mosquitto, said: dict[str, Any]) -> None:
    with box(configuration(broker.url, model=EITHER)) as one:
        found = one.model("digits")
        assert found["state"] == "serving"
        assert found["providers"] == ["CPUExecutionProvider"]
        assert found["fallback"].startswith("cuda: ")
        _, body, _ = one.request("GET", "/v2/models/digits/config")
        triton = json.loads(body)
        assert triton["instance_group"][0]["kind"] == "KIND_CPU"
        assert triton["parameters"]["fallback"] == {"string_value": found["fallback"]}
        assert b'edged_model_fallback{model="digits"} 1.0' in one.request("GET", "/metrics")[1]
        until(lambda: any(event["event"] == "fell_back" for event in said["events"]))
        until(lambda: "fallback" in said.get("info", {}).get("flags", ()))
        assert said["info"]["models"][0]["fallback"] == found["fallback"]
        assert said["status"]["fallback"] == found["fallback"]
        (event,) = [event for event in said["events"] if event["event"] == "fell_back"]
        assert (event["model"], event["version"], event["code"]) == ("digits", "1", "no_provider")
        # A process that takes its place is no news.
        one.workers()[0].kill()
        one.wait(lambda: one.model("digits")["restarts"] == 1 and one.model("digits")["state"] == "serving")
        assert [event["event"] for event in said["events"]].count("fell_back") == 1


def test_cuda_alone_is_failed_and_nothing_else_is_disturbed() -> None:
    text = plain(ALONE) + f"  other: {{file: {DIGITS / 'digits_v1_int8.onnx'}}}\n"
    with box(text) as one:
        found = one.model("digits")
        assert found["state"] == "failed"
        assert found["fault"]["code"] == "no_provider"
        assert "CUDA" in found["fault"]["message"]
        assert "onnxruntime-gpu" in found["fault"]["hint"]
        assert one.model("other")["state"] == "serving"
        code, answer = one.infer("digits", [{"name": "image", "datatype": "FP32", "shape": [1], "data": [0]}])
        assert code == 500
        assert "CUDA" in answer["error"]


def test_a_reload_from_one_to_the_other_loses_nothing() -> None:
    with box(plain()) as one, HttpSender(one, pause_s=0.002) as sender:
        one.wait(lambda: sender.answers > 50)
        assert one.model("digits")["fallback"] == ""
        first = one.model("digits")["pid"]
        code, answer = reload(one, plain(EITHER))
        assert (code, answer["changed"]) == (200, ["digits"])
        assert one.model("digits")["fallback"].startswith("cuda: ")
        assert one.model("digits")["pid"] != first
        code, refused = reload(one, plain(ALONE))
        assert (code, refused["code"]) == (500, "no_provider")
        assert one.model("digits")["fallback"].startswith("cuda: ")  # as before
        assert reload(one, plain())[0] == 200
        assert one.model("digits")["fallback"] == ""
        seen = sender.answers
        one.wait(lambda: sender.answers > seen + 50)
    assert (sender.lost, sender.errors) == (0, [])


def test_check_says_what_would_become_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "edged.yaml"
    file.write_text(plain(EITHER))
    assert cli.main(["check", "--config", str(file)]) == 0
    assert "digits: would run on the CPU: cuda: " in capsys.readouterr().out
    file.write_text(plain(ALONE))
    assert cli.main(["check", "--config", str(file)]) == 2
    shown = capsys.readouterr()
    assert "models.digits" in shown.out + shown.err
    assert "onnxruntime-gpu" in shown.out + shown.err


def test_doctor_has_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with box(plain(EITHER)) as one:
        file = tmp_path / "edged.yaml"
        file.write_text(f"{plain(EITHER)}sockets: {{unix: {one.socket}}}\n")
        assert cli.main(["doctor", "--json", "--config", str(file)]) == 1
        found = json.loads(capsys.readouterr().out)
        (fallen,) = [one for one in found if one["what"] == "model" and one["level"] == "bad"]
        assert fallen["said"].startswith("digits runs on the CPU: cuda: ")
        assert "onnxruntime-gpu" in fallen["hint"]
        cli.main(["status", "--socket", str(one.socket)])
        assert "digits: runs on the CPU: cuda: " in capsys.readouterr().out
