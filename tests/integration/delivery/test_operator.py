"""`edged push --simple` and `edged rollback` as an operator runs them: real broker, real daemon, real models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import models
from tests.box import DIGITS, ROOT, Box, box
from tests.brokers import Amqtt, Mosquitto
from tests.senders import HttpSender, configuration

V1, V2 = DIGITS / "digits_v1_int8.onnx", DIGITS / "digits_v2_int8.onnx"
QUICK = "probation: {time: 300ms, runs: 20}"


def edged(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and all that was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "edged", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=90
    )
    return done.returncode, done.stdout + done.stderr


def push(file: Path, url: str, *more: str, model: str = "digits", to: str = "device:box") -> tuple[int, str]:
    return edged("push", "--simple", file, "--model", model, "--to", to, "--broker", url, *more)


@pytest.fixture
def running(broker: Mosquitto) -> Iterator[Box]:
    with box(configuration(broker.url, push=QUICK)) as one, HttpSender(one, pause_s=0.002):
        one.wait(lambda: online(one))
        yield one


def online(one: Box) -> bool:
    return "connected" in one.log.read_text()


def at(one: Box) -> str:
    """The phase of digits; "" until the daemon has said one."""
    return str((one.model("digits")["install"] or {}).get("phase", ""))


def test_a_push_is_live_when_the_command_ends_and_a_rollback_undoes_it(running: Box, broker: Mosquitto) -> None:
    code, said = push(V2, broker.url, "--version", "7")
    assert code == 0, said
    assert "version 7 is live on box" in said
    assert "probation" in said
    assert running.model("digits")["version"] == "7"
    code, said = edged("rollback", "digits", "--socket", running.socket)
    assert (code, said) == (0, "digits: version 1 answers again, held until `edged unpin digits`\n")
    assert running.model("digits")["version"] == "1"
    assert running.model("digits")["errors"] == 0


def test_a_refused_push_says_why_and_what_to_do(running: Box, broker: Mosquitto, tmp_path: Path) -> None:
    file = tmp_path / "lying.onnx"
    file.write_bytes(models.lying_shape())
    code, said = push(file, broker.url)
    assert code == 1
    assert "[io_mismatch]" in said
    assert "comes out as [1, 5]" in said
    code, said = push(V1, broker.url)  # the live one
    assert code == 0
    assert "version 1 is live" in said


def test_what_cannot_reach_a_box_says_so(running: Box, broker: Mosquitto) -> None:
    code, said = push(V2, broker.url, to="device:press-08")
    assert (code, "press-08 is not known to this broker" in said) == (1, True)
    code, said = push(V2, broker.url, model="cells")
    assert (code, "nobody listens on edged/box/models/cells/push" in said) == (1, True)
    code, said = push(V2, broker.url, to="group:line-2")
    assert (code, "goes to one box" in said) == (2, True)
    code, said = push(V2, "mqtt://me:secret@127.0.0.1:99999")
    assert (code, "--broker mqtt://127.0.0.1:99999: expected mqtt://host:port" in said) == (2, True), said
    code, said = push(V2, broker.url, "--version", "0")
    assert (code, "[bad_config]" in said) == (2, True), said
    code, said = push(Path("/nowhere.onnx"), broker.url)
    assert (code, "/nowhere.onnx" in said) == (2, True)
    code, said = edged("rollback", "digits", "--socket", running.socket)
    assert (code, "[no_previous]" in said) == (1, True)


def test_a_broker_that_takes_less_is_found_out_before_the_file_is_sent(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path, "max_packet_size 30000") as broker,
        box(configuration(broker.url)) as one,
    ):
        one.wait(lambda: online(one))
        code, said = push(V2, broker.url)
        assert code == 1
        assert "takes packets of 30000 at most [too_large]" in said
        assert "max_packet_size" in said


@pytest.mark.slow
def test_a_broker_that_speaks_3_1_1_only(tmp_path: Path) -> None:
    with Amqtt(tmp_path) as broker, box(configuration(broker.url, push=QUICK)) as one:
        one.wait(lambda: online(one), 60)
        with HttpSender(one, pause_s=0.002):
            code, said = push(V2, broker.url, "--version", "7")
        assert code == 0, said
        assert "carries no version" in said
        assert "version 2 is live" in said


@pytest.mark.parametrize("phase", ["trial", "probation"])
def test_kill_9_of_the_daemon_in_any_phase_ends_in_old_or_new(broker: Mosquitto, tmp_path: Path, phase: str) -> None:
    slow = tmp_path / "slow.onnx"
    slow.write_bytes(models.slow_digits(20_000))
    long = "probation: {time: 60s, runs: 20}"
    with box(configuration(broker.url, push=long)) as one:
        one.wait(lambda: online(one))
        code, said = push(slow if phase == "trial" else V2, broker.url, "--wait", "0")
        assert code == 0, said
        one.wait(lambda: at(one) == phase)
        one.kill()
        one.start()
        found = one.model("digits")
        assert found["state"] == "serving"
        assert found["version"] == ("1" if phase == "trial" else "2")
        one.wait(lambda: at(one) == ("idle" if phase == "trial" else "probation"), 60)
        if phase == "trial":
            assert one.model("digits")["install"]["code"] == "too_slow"
