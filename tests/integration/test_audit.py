"""What was decided on a box can be read afterwards: on its disk, over MQTT, and with `edged log`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.box import DIGITS, Box, box
from tests.brokers import Mosquitto
from tests.senders import HttpSender, configuration, push
from tests.waiting import until

V2 = (DIGITS / "digits_v2_int8.onnx").read_bytes()
QUICK = "probation: {time: 1s, runs: 0}"
ONE_MODEL = f"""
device: box
models:
  digits:
    file: {DIGITS}/digits_v1_int8.onnx
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    postprocess: [softmax, argmax]
"""


class Listener:
    """Every event that the box publishes."""

    def __init__(self, port: int) -> None:
        self.events: list[dict[str, Any]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("edged/box/event", 1)
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _take(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        assert not message.retain
        self.events += json.loads(message.payload)["events"]

    @property
    def words(self) -> list[str]:
        return [one["event"] for one in self.events]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def listener(broker: Mosquitto) -> Iterator[Listener]:
    one = Listener(broker.port)
    yield one
    one.close()


def log(one: Box, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edged", "log", *words]
    return subprocess.run(command, env=one.environment, capture_output=True, text=True, timeout=60)


def entries(one: Box, *words: str) -> list[dict[str, Any]]:
    done = log(one, "--json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_push_and_the_way_back_are_on_the_disk_and_on_the_event_topic(broker: Mosquitto, listener: Listener) -> None:
    with box(configuration(broker.url, push=QUICK)) as one:
        one.wait(lambda: "started" in listener.words and broker.says("edged/box/models/digits/push"))
        push(broker.port, V2)
        one.wait(lambda: "committed" in listener.words, 60)
        assert one.request("POST", "/edged/models/digits/rollback")[0] == 200
        push(broker.port, b"no model")
        one.wait(lambda: "failed" in listener.words)
        assert one.stop() == 0
        expected = ["started", "offered", "switched", "committed", "rolled_back", "offered", "failed", "stopped"]
        until(lambda: "stopped" in listener.words)
        assert listener.words == expected
        found = entries(one)
        assert [strip(line) for line in found] == listener.events
        assert [line["event"] for line in found] == expected
        assert [line["n"] for line in found] == [1, 2, 3, 4, 5, 6, 7, 8]
        switched, back, failed = found[2], found[4], found[6]
        assert (switched["model"], switched["version"]) == ("digits", "2")
        assert (back["version"], back["code"], back["by"]) == ("2", "undone", f"uid {os.geteuid()}")
        assert failed["code"] == "not_a_model"
        assert [line["n"] for line in entries(one, "digits")] == [2, 3, 4, 5, 6, 7]
        assert entries(one, "absent") == []
        nothing = log(one, "absent", "--since", "1h")
        assert (nothing.returncode, nothing.stdout) == (0, "")
        assert nothing.stderr.startswith("edged: nothing about absent in the last 1h in the audit in ")
        assert len(entries(one, "--since", "1h")) == 8
        for line in one.log.read_text().splitlines():
            assert line.count("back to version 1") <= 1


def strip(line: dict[str, Any]) -> dict[str, Any]:
    """A line of the file as the topic tells it: without its own hash."""
    return {key: value for key, value in line.items() if key != "hash"}


def test_the_log_is_for_people_and_says_where_the_chain_is_broken() -> None:
    with box(ONE_MODEL) as one:
        assert one.request("POST", "/edged/models/digits/rollback")[0] == 409
        one.stop()
        done = log(one)
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        assert len(lines) == 3
        assert lines[1].split()[2:4] == ["digits", "rollback_refused"]
        assert lines[1].endswith(f"[no_previous]  by uid {os.geteuid()}")
        file = one.folder / "state" / "audit.jsonl"
        file.write_bytes(file.read_bytes().replace(b"rollback_refused", b"rolled_back_too_"))
        done = log(one, "--since", "1d")
        assert done.returncode == 1
        assert done.stderr == "edged: the audit is broken: entry 2 was changed\n"
        assert len(done.stdout.splitlines()) == 3
        done = log(one, "--since", "yesterday")
        assert (done.returncode, "[bad_config]" in done.stderr) == (2, True)
        file.unlink()
        if Path("/var/lib/edged/audit.jsonl").exists():
            return  # the next one would be that of the edged that is installed on this machine
        done = log(one)
        assert done.returncode == 1
        assert "[no_state]" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])  # a line at a time is what a long log comes to
def test_a_reader_that_has_enough_ends_the_log_without_a_word(unbuffered: str) -> None:
    with box(ONE_MODEL) as one:
        one.stop()
        reading, writing = os.pipe()
        os.close(reading)  # as `head -1` does, sooner or later
        command, environment = [*one.program, "log", "--json"], {**one.environment, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment)
        os.close(writing)
        assert (done.stderr, done.returncode) == ("", 1)


def test_an_answer_that_cannot_be_written_is_an_error_in_words() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        command = [sys.executable, "-m", "edged", "version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.stderr, done.returncode) == ("edged: the answer could not be written: No space left on device\n", 1)


def test_who_has_asked_is_answered_when_the_line_is_there() -> None:
    """However many ask within a second, of what is done and of what is refused."""
    with box(ONE_MODEL) as one:
        file = one.folder / "state" / "audit.jsonl"
        for number in range(1, 4):
            assert one.request("POST", "/edged/reload")[0] == 200
            assert one.request("POST", "/edged/models/digits/rollback")[0] == 409
            words = [json.loads(line)["event"] for line in file.read_text().splitlines()]
            assert (words.count("reloaded"), words.count("rollback_refused")) == (number, number)


def test_a_daemon_that_was_killed_goes_on_with_the_chain() -> None:
    with box(ONE_MODEL) as one:
        one.wait((one.folder / "state" / "audit.jsonl").exists)
        one.kill()
        one.start()
        one.stop()
        assert [line["event"] for line in entries(one)] == ["started", "started", "stopped"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_does_not_stop_serving(broker: Mosquitto, listener: Listener, tmp_path: Path) -> None:
    state = tmp_path / "small"
    state.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", state], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.decode().strip()}")
    try:
        with box(configuration(broker.url, push=QUICK), start=False) as one:
            one.environment["STATE_DIRECTORY"] = str(state)
            one.start()
            filler = state / "filler"
            with HttpSender(one, pause_s=0.002) as http:
                one.wait(lambda: "started" in listener.words and broker.says("edged/box/models/digits/push"))
                filler.write_bytes(b"x" * (os.statvfs(state).f_bavail * os.statvfs(state).f_frsize))
                audit = state / "audit.jsonl"
                # A file may grow within its last block: until that is full, there is room.
                with audit.open("ab") as file:
                    file.write(b" " * (-audit.stat().st_size % 4096 - 1) + b"\n")
                push(broker.port, V2)
                one.wait(lambda: "rejected" in listener.words)
                assert [line["code"] for line in listener.events if line["event"] == "rejected"] == ["no_space"]
                one.wait(lambda: one.status()["daemon"]["audit"]["waiting"] > 0)
                so_far = http.answers
                one.wait(lambda: http.answers > so_far + 50)
                filler.unlink()
                one.wait(lambda: one.status()["daemon"]["audit"] == {"waiting": 0, "lost": 0})
            assert (http.lost, http.errors) == (0, [])
            assert [line["event"] for line in (json.loads(x) for x in audit.read_text().split("\n") if x.strip())] == [
                "started",
                "rejected",
            ]
    finally:
        subprocess.run(["umount", state], check=True)
