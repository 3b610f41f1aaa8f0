"""Models that no configuration names (`push.models: any`): a signed release brings them, a restart finds them again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edged.delivery.documents import MODEL_FILE, RELEASE_FILE, SETTINGS_FILE, Release
from edged.topics import Ota
from tests.box import Box
from tests.brokers import Mosquitto
from tests.integration.test_install import V2, edged, release_for, retain, trusting
from tests.integration.test_requests import rr
from tests.signing import Operator, file_of, sha256_of, want_of

OTA = Ota("edged")
SETTINGS = b"preprocess: [{scale: 0.0625}, {reshape: [1, 8, 8]}]\npostprocess: [softmax, {top_k: 1}]\n"
PUSH = "push: {trust: trust.json, models: any, probation: {time: 200ms, runs: 0}}\n"


@pytest.fixture(scope="module")
def operator() -> Operator:
    return Operator()


@pytest.fixture
def one(operator: Operator) -> Iterator[Box]:
    with trusting(operator, f"device: box\ndefaults: {{queue: {{size: 7}}}}\n{PUSH}") as running:
        yield running


def release(settings: bytes = SETTINGS) -> tuple[Release, dict[str, bytes]]:
    """A release of the model `extra`."""
    files = {MODEL_FILE: V2} | ({SETTINGS_FILE: settings} if settings else {})
    found = msgspec.structs.replace(
        release_for(V2, 2), model="extra", files={name: file_of(content) for name, content in files.items()}
    )
    return found, files


def folder(path: Path, operator: Operator, settings: bytes = SETTINGS) -> Path:
    found, files = release(settings)
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    (path / RELEASE_FILE).write_bytes(operator.sign_release(found))
    return path


def names(one: Box) -> list[str]:
    return [model["name"] for model in one.status()["models"]]


def asked(one: Box) -> dict[str, object]:
    """An answer of `extra` to plain values, by the steps that the release brings."""
    body = json.dumps([0.0] * 64).encode()
    code, answer, _ = one.request("POST", "/v2/models/extra/infer", body, {"Content-Type": "application/json"})
    assert code == 200, answer
    found: dict[str, object] = json.loads(answer)
    return found


def test_a_release_brings_its_model_and_a_restart_finds_it(one: Box, operator: Operator, tmp_path: Path) -> None:
    assert names(one) == []
    code, said = edged(one, "install", str(folder(tmp_path / "extra-2", operator)))
    assert code == 0, said
    assert said.splitlines()[-1] == "extra: version 2 is live"
    assert set(asked(one)) >= {"prediction", "model_version"}
    assert "arrived" in edged(one, "log", "extra")[1]
    assert one.stop() == 0
    one.start()
    assert one.model("extra")["version"] == "2"
    assert "prediction" in asked(one)
    # A reload knows it too, with what `defaults` says now; without `any` it is none of the box's.
    one.config.write_text(one.config.read_text().replace("size: 7", "size: 9"))
    code, body, _ = one.request("POST", "/edged/reload")
    assert (code, json.loads(body)["changed"]) == (200, ["extra"])
    assert "prediction" in asked(one)
    one.config.write_text(one.config.read_text().replace("models: any", "models: configured"))
    code, body, _ = one.request("POST", "/edged/reload")
    assert (code, json.loads(body)["removed"]) == (200, ["extra"])
    assert names(one) == []


def test_a_release_that_does_not_say_how_it_is_used_brings_nothing(
    one: Box, operator: Operator, tmp_path: Path
) -> None:
    code, said = edged(one, "install", str(folder(tmp_path / "bare-2", operator, b"")))
    assert (code, "[bad_settings]" in said) == (1, True), said
    assert one.model("extra")["state"] == "waiting"
    assert one.stop() == 0
    one.start()
    assert names(one) == []


def test_only_where_the_configuration_says_any(one: Box, operator: Operator, tmp_path: Path) -> None:
    one.stop()
    one.config.write_text(one.config.read_text().replace("models: any, ", ""))
    one.start()
    code, said = edged(one, "install", str(folder(tmp_path / "extra-2", operator)))
    assert (code, "[unknown_model]" in said) == (1, True), said
    assert names(one) == []


@rr
def test_a_want_brings_it_over_mqtt(broker: Mosquitto, operator: Operator) -> None:
    """A want of somebody who may not say so brings nothing, not even a name."""
    text = f"device: box\nmqtt: {{url: '{broker.url}'}}\n{PUSH}"
    found, files = release()
    now_ms = time.time_ns() // 1_000_000
    order = want_of(found, to="all", seq=now_ms, issued=now_ms, expires=now_ms + 3_600_000)
    stranger = msgspec.structs.replace(order, model="stranger")
    with trusting(operator, text) as one:
        one.wait(lambda: broker.says("edged/ota/want/+/all"))
        retain(broker, OTA.want("stranger", "all"), Operator().sign_order(stranger))
        for content in files.values():
            retain(broker, OTA.blob(file_of(content).sha256), content)  # one chunk: its hash is the file's
            index = bytes.fromhex(file_of(content).sha256)
            retain(broker, OTA.blob(file_of(content).index), index)
        retain(broker, OTA.release(sha256_of(found)), operator.sign_release(found))
        retain(broker, OTA.want("extra", "all"), operator.sign_order(order))
        one.wait(lambda: names(one) == ["extra"] and one.model("extra")["version"] == "2")
        assert "prediction" in asked(one)
        one.kill()
        one.start()
        one.wait(lambda: names(one) == ["extra"] and one.model("extra")["version"] == "2")
