"""What a person does on the box: a release from a folder, the word that one may begin, a version held and let go."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from edged.delivery.documents import MODEL_FILE, RELEASE_FILE, Release
from edged.tensors import TensorSpec
from edged.topics import Ota
from tests import models
from tests.box import DIGITS, Box, box
from tests.brokers import Mosquitto
from tests.integration.test_requests import ask, rr
from tests.signing import Operator, file_of, release_of, sha256_of, want_of

CHUNK = 16 * 1024  # so that a small model has several
OTA = Ota("edged")
PUSH = "probation: {time: 200ms, runs: 0}, trust: trust.json"
V2, V4 = ((DIGITS / f"digits_v{version}_int8.onnx").read_bytes() for version in (2, 4))


def configuration(push: str = PUSH, mqtt: str = "") -> str:
    broker = f"mqtt: {{url: '{mqtt}'}}\n" if mqtt else ""
    return f"""\
device: box
{broker}models: {{digits: {{file: {DIGITS}/digits_v1_int8.onnx}}}}
push: {{{push}}}
"""


@pytest.fixture(scope="module")
def operator() -> Operator:
    return Operator()


@contextmanager
def trusting(operator: Operator, text: str) -> Iterator[Box]:
    """A box that believes this operator."""
    with box(text, start=False) as one:
        (one.folder / "trust.json").write_bytes(operator.sign_trust())
        one.start()
        yield one


@pytest.fixture
def one(operator: Operator) -> Iterator[Box]:
    with trusting(operator, configuration()) as running:
        yield running


def release_for(model: bytes, version: int) -> Release:
    found = release_of({MODEL_FILE: model}, version=version)
    return msgspec.structs.replace(
        found,
        files={MODEL_FILE: file_of(model, CHUNK)},
        inputs=(TensorSpec("image", "FP32", (-1, 1, 8, 8)),),
        outputs=(TensorSpec("logits", "FP32", (-1, 10)),),
    )


def folder(path: Path, operator: Operator, model: bytes = V2, version: int = 2) -> Path:
    """A release as it lies on a stick."""
    path.mkdir()
    (path / MODEL_FILE).write_bytes(model)
    (path / RELEASE_FILE).write_bytes(operator.sign_release(release_for(model, version)))
    return path


def edged(one: Box, *words: str, cwd: Path | None = None) -> tuple[int, str]:
    """A command on the box: its exit code, and all that it says."""
    command = [sys.executable, "-m", "edged", *words]
    done = subprocess.run(command, env=one.environment, capture_output=True, text=True, timeout=100, cwd=cwd)
    return done.returncode, done.stdout + done.stderr


def test_a_release_comes_from_a_folder_without_a_broker(one: Box, operator: Operator, tmp_path: Path) -> None:
    stick = folder(tmp_path / "digits-2", operator)
    code, said = edged(one, "install", str(stick))
    assert code == 0, said
    assert said.splitlines()[-1] == "digits: version 2 is live"
    assert one.model("digits")["version"] == "2"
    (kept,) = (one.folder / "state/releases").iterdir()
    assert kept.name == sha256_of(release_for(V2, 2))
    assert (kept / MODEL_FILE).read_bytes() == V2
    code, said = edged(one, "install", str(stick))
    assert (code, said) == (0, "digits: version 2 is live\n")
    code, said = edged(one, "log", "digits")
    assert "version 2 is wanted and fits: it is fetched" in said
    assert f"release key {operator.release.keyid}" in said
    assert "uid " in said


def test_what_a_box_does_not_believe_stays_outside(one: Box, operator: Operator, tmp_path: Path) -> None:
    code, said = edged(one, "install", str(folder(tmp_path / "stranger", Operator())))
    assert (code, "[signature]" in said) == (1, True), said
    damaged = folder(tmp_path / "damaged", operator)
    (damaged / MODEL_FILE).write_bytes(V2[:-1] + b"x")
    code, said = edged(one, "install", str(damaged))
    assert (code, "[bad_release]" in said) == (1, True), said
    code, said = edged(one, "install", str(tmp_path / "none"))
    assert (code, "[bad_config]" in said) == (2, True), said
    code, said = edged(one, "install", "digits")  # a model: nothing of it waits
    assert (code, "[not_found]" in said) == (1, True), said
    code, said = edged(one, "install", "nobody")
    assert (code, "[unknown_model]" in said) == (1, True), said
    (tmp_path / "nobody").mkdir()
    code, said = edged(one, "install", "nobody", cwd=tmp_path)
    assert (code, "there is no nobody/release.json, and no model nobody here" in said) == (2, True), said
    assert one.model("digits")["version"] == "1"
    assert not [*(one.folder / "state/releases").iterdir()]


def test_what_fails_its_trial_says_why(one: Box, operator: Operator, tmp_path: Path) -> None:
    code, said = edged(one, "install", str(folder(tmp_path / "bad", operator, b"no model", 3)))
    assert code == 1, said
    assert "digits: rejected: onnxruntime cannot load it" in said
    assert "[not_a_model]" in said
    assert one.model("digits")["version"] == "1"
    again, said = edged(one, "install", str(tmp_path / "bad"))
    assert (again, "[not_a_model]" in said) == (1, True), said


def test_ota_F36_a_file_that_is_not_what_the_document_says_fails(one: Box, operator: Operator, tmp_path: Path) -> None:
    """The document has the live model's inputs and outputs, so it is fetched; the file has others."""
    code, said = edged(one, "install", str(folder(tmp_path / "other", operator, models.linear(), 3)))
    assert (code, "[io_mismatch]" in said) == (1, True), said
    assert one.model("digits")["version"] == "1"


def test_ota_F41_what_crashes_live_goes_back(operator: Operator, tmp_path: Path) -> None:
    """Its process is killed as if by an input and started again; after the third time the version before answers."""
    with trusting(operator, configuration(PUSH.replace("200ms", "60s"))) as one:
        code, said = edged(one, "install", str(folder(tmp_path / "digits-2", operator)), "--wait", "0")
        assert code == 0, said
        one.wait(lambda: one.model("digits")["install"]["phase"] == "probation")
        for _ in range(3):
            pid = one.model("digits")["pid"]
            os.kill(pid, signal.SIGKILL)
            one.wait(lambda pid=pid: one.model("digits")["pid"] not in (None, pid))
        one.wait(lambda: one.model("digits")["install"]["verdict"] == "rolled_back")
        found = one.model("digits")
        assert (found["version"], found["install"]["code"]) == ("1", "probation_crash")


def test_without_a_root_of_trust_nothing_is_taken(operator: Operator, tmp_path: Path) -> None:
    with box(configuration("record: true")) as one:
        code, said = edged(one, "install", str(folder(tmp_path / "digits-2", operator)))
        assert (code, "[no_trust]" in said) == (1, True), said


def test_a_person_holds_a_version_and_lets_it_go(one: Box, operator: Operator, tmp_path: Path) -> None:
    assert edged(one, "install", str(folder(tmp_path / "digits-2", operator)))[0] == 0
    code, said = edged(one, "pin", "digits", "2")
    assert (code, said) == (0, "digits: held at version 2 until `edged unpin digits`\n")
    code, said = edged(one, "pin", "digits", "7")
    assert (code, "[bad_version]" in said) == (1, True), said
    code, said = edged(one, "pin", "digits", "1")
    assert code == 0, said
    assert one.model("digits")["version"] == "1"
    assert edged(one, "pin", "digits", "2")[0] == 0
    one.wait(lambda: "on to version 2: uid " in edged(one, "log", "digits")[1])
    assert edged(one, "pin", "digits", "1")[0] == 0
    one.wait(lambda: edged(one, "log", "digits")[1].count("back to version 1: uid ") == 2)
    code, said = edged(one, "unpin", "digits")
    assert (code, said) == (0, "digits: follows what is wanted again\n")
    code, said = edged(one, "unpin", "digits")
    assert (code, "[not_found]" in said) == (1, True), said
    one.wait(lambda: '"unpinned"' in edged(one, "log", "digits", "--json")[1])
    code, said = edged(one, "log", "digits")
    for word in ("pinned", "unpinned", "rolled_back"):
        assert word in said


def test_a_way_back_that_is_not_there_gives_up_no_download(one: Box, operator: Operator, tmp_path: Path) -> None:
    stick = folder(tmp_path / "digits-2", operator)
    code, _, _ = one.request("POST", "/edged/install", (stick / RELEASE_FILE).read_bytes())
    assert code == 200
    one.wait(lambda: (one.model("digits")["install"] or {}).get("phase") == "downloading")  # for ever
    code, said = edged(one, "rollback", "digits")
    assert (code, "[no_previous]" in said) == (1, True), said
    code, said = edged(one, "install", str(stick))
    assert code == 0, said
    events = [json.loads(line)["event"] for line in edged(one, "log", "digits", "--json")[1].splitlines()]
    assert "failed" not in events
    assert "rejected" not in events


@pytest.mark.parametrize("body", [b"", b"{}", b'{"version": 0}', b'{"version": "2"}', b'{"version": true}'])
def test_a_version_is_a_number(one: Box, body: bytes) -> None:
    code, answer, _ = one.request("POST", "/edged/models/digits/pin", body)
    assert (code, json.loads(answer)["code"]) == (400, "bad_version")


def retain(broker: Mosquitto, topic: str, payload: bytes) -> None:
    subprocess.run(
        ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-r", "-t", topic, "-s"],
        input=payload,
        check=True,
        timeout=20,
    )


def ordered(broker: Mosquitto, operator: Operator) -> None:
    """Version 2 for the box, as an operator leaves it on the broker: chunks, release, then the want."""
    release = release_for(V2, 2)
    file = release.files[MODEL_FILE]
    now_ms = time.time_ns() // 1_000_000
    want = want_of(release, to="device/box", seq=now_ms, issued=now_ms, expires=now_ms + 3_600_000)
    chunks = [V2[at : at + CHUNK] for at in range(0, len(V2), CHUNK)]
    index = b"".join(hashlib.sha256(chunk).digest() for chunk in chunks)
    assert hashlib.sha256(index).hexdigest() == file.index
    for payload in (*chunks, index):
        retain(broker, OTA.blob(hashlib.sha256(payload).hexdigest()), payload)
    retain(broker, OTA.release(sha256_of(release)), operator.sign_release(release))
    retain(broker, OTA.want("digits", "device/box"), operator.sign_order(want))


@rr
@pytest.mark.parametrize("how", ["command", "request"])
def test_a_release_waits_for_a_persons_word(broker: Mosquitto, operator: Operator, how: str) -> None:
    with trusting(operator, configuration(f"{PUSH}, install: manual", broker.url)) as one:
        ordered(broker, operator)
        one.wait(lambda: (one.model("digits")["install"] or {}).get("code") == "manual")
        status = one.model("digits")["install"]
        assert status["phase"] == "waiting"
        assert status["bytes_have"] == len(V2)  # it has been fetched
        assert one.model("digits")["version"] == "1"
        if how == "command":
            code, said = edged(one, "install", "digits")
            assert (code, said) == (0, "digits: version 2 may begin\n")
        else:
            found = ask(broker, "install", '{"model": "digits"}')
            assert found["status"] == "ok", found
        one.wait(lambda: one.model("digits")["install"]["verdict"] == "active")
        assert one.model("digits")["version"] == "2"


@rr
def test_outside_of_its_hours_it_waits_until_a_reload_says_otherwise(broker: Mosquitto, operator: Operator) -> None:
    hour = (time.localtime().tm_hour + 12) % 24
    closed = f"{PUSH}, install: '{hour:02}:00-{(hour + 1) % 24:02}:00'"
    with trusting(operator, configuration(closed, broker.url)) as one:
        ordered(broker, operator)
        one.wait(lambda: (one.model("digits")["install"] or {}).get("code") == "not_now")
        assert one.model("digits")["install"]["bytes_have"] == len(V2)
        assert one.model("digits")["version"] == "1"
        one.config.write_text(configuration(PUSH, broker.url))
        code, body, _ = one.request("POST", "/edged/reload")
        assert (code, json.loads(body)["settings"]) == (200, ["push.install"])
        one.wait(lambda: one.model("digits")["install"]["verdict"] == "active")
        assert one.model("digits")["version"] == "2"


@rr
def test_what_a_person_holds_no_want_moves(broker: Mosquitto, operator: Operator, tmp_path: Path) -> None:
    with trusting(operator, configuration(mqtt=broker.url)) as one:
        assert edged(one, "install", str(folder(tmp_path / "digits-4", operator, V4, 4)))[0] == 0
        code, said = edged(one, "rollback", "digits")
        assert (code, said) == (0, "digits: version 1 answers again, held until `edged unpin digits`\n")
        ordered(broker, operator)
        one.wait(lambda: one.model("digits")["install"]["code"] == "pinned")
        assert one.model("digits")["install"]["phase"] == "waiting"
        assert one.model("digits")["version"] == "1"
        assert edged(one, "unpin", "digits")[0] == 0
        one.wait(lambda: one.model("digits")["install"]["verdict"] == "active")
        assert one.model("digits")["version"] == "2"


@rr
def test_over_mqtt_only_what_waits_can_begin(broker: Mosquitto, operator: Operator) -> None:
    with trusting(operator, configuration(mqtt=broker.url)) as one:
        one.wait(lambda: broker.says("edged/box/request/+"))
        for body, code in (
            ('{"model": "digits"}', "not_found"),
            ("{}", "bad_input"),
            ('{"model": "x"}', "unknown_model"),
        ):
            found = ask(broker, "install", body)
            assert (found["status"], found["error"]["code"]) == ("error", code), found
