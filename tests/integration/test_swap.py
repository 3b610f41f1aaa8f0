"""The reason for edged: a pushed model takes over under load, or does not, and no input is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from edged.worker.session import Model
from tests import models
from tests.box import AS_NOBODY_SPECIAL, DIGITS, Box, box
from tests.brokers import Mosquitto
from tests.senders import HttpSender, MqttSender, configuration, push, scans

V1 = (DIGITS / "digits_v1_int8.onnx").read_bytes()
V2 = (DIGITS / "digits_v2_int8.onnx").read_bytes()
QUICK = "probation: {time: 1s, runs: 20}"


def install(one: Box) -> dict[str, object]:
    found: dict[str, object] = one.model("digits")["install"]
    return found


def settled(one: Box, version: str) -> Callable[[], bool]:
    """Whether this version answers and its probation has ended."""
    return lambda: one.model("digits")["version"] == version and install(one)["phase"] == "idle"


def first_version_right(count: int) -> int:
    """How many of the first so many scans, one after the other, plain onnxruntime reads right with version 1."""
    model = Model.open(DIGITS / "digits_v1_int8.onnx")
    right = 0
    for number in range(count):
        label, pixels = scans()[number % len(scans())]
        image = np.array(pixels, dtype=np.float32).reshape(1, 1, 8, 8) / 16
        right += int(model.run({"image": image})["logits"].argmax()) == label
    return right


def tree_memory(one: Box) -> int:
    """Bytes of the daemon and everything below it, shared pages divided.

    Pss_Anon of proc(5): what files back is left out, as other tests may map the same libraries just now.
    """
    assert one.process is not None
    top = psutil.Process(one.process.pid)
    total = 0
    for process in [top, *top.children(recursive=True)]:
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss_Anon:")) * 1024
    return total


@pytest.mark.slow
def test_twenty_swaps_under_load_lose_nothing_and_keep_the_order(broker: Mosquitto) -> None:
    with box(configuration(broker.url, push=QUICK)) as one:
        senders = [
            MqttSender(broker.port, "a", pause_s=0.002),
            MqttSender(broker.port, "b", pause_s=0.002),
            HttpSender(one, pause_s=0.002),
            HttpSender(one, pause_s=0.002),
        ]
        with senders[0], senders[1], senders[2], senders[3]:
            # What a daemon keeps of its latest inputs fills up over some ten thousand of them, without any swap:
            # 65.0 MB after 500, 65.6 after 3000, 66.1 after 5600, 67.2 after 13,000. It is of swaps that is asked here.
            one.wait(lambda: one.model("digits")["requests"] > 3000, 120)
            before = tree_memory(one)
            for sender in senders:
                sender.pause_s = 0.02  # every swap still has inputs on their way
            for swap in range(20):
                push(broker.port, V2 if swap % 2 == 0 else V1)
                one.wait(settled(one, str(swap + 2)))
            time.sleep(5)
            after = tree_memory(one)
        assert [sender.lost for sender in senders] == [0, 0, 0, 0]
        assert [sender.errors for sender in senders] == [[], [], [], []]
        for sender in senders[:2]:
            assert isinstance(sender, MqttSender)
            assert sender.order == list(range(sender.sent))
            assert len(sender.versions) == 21
        assert abs(after - before) <= max(0.05 * before, 4 * 2**20), f"{before} -> {after}"
        assert one.model("digits")["restarts"] == 0


def test_a_better_model_takes_over(broker: Mosquitto) -> None:
    with box(configuration(broker.url, push=QUICK)) as one:
        with HttpSender(one) as before:
            one.wait(lambda: before.sent >= len(scans()))
        push(broker.port, V2)
        with HttpSender(one, pause_s=0.001):
            one.wait(settled(one, "2"))
        with HttpSender(one) as after:
            one.wait(lambda: after.sent >= len(scans()))
        assert before.right / before.answers == pytest.approx(0.83, abs=0.02)
        assert after.right / after.answers > 0.99


def test_who_may_raise_no_priority_gets_a_fresh_process(broker: Mosquitto) -> None:
    """RULES 6, as an ordinary user: the candidate answers, and a process of normal priority takes over from it."""
    with box(configuration(broker.url, push=QUICK), start=False) as one:
        one.prefix = AS_NOBODY_SPECIAL
        one.start()
        with HttpSender(one, pause_s=0.002) as http, MqttSender(broker.port, "a", pause_s=0.002) as mqtt:
            one.wait(lambda: one.model("digits")["requests"] > 50)
            push(broker.port, V2)
            one.wait(settled(one, "2"))
            one.wait(lambda: "whose priority is low" in one.tail(1000))
            live = psutil.Process(one.model("digits")["pid"])
            assert live.nice() == os.getpriority(os.PRIO_PROCESS, 0)
            so_far = one.model("digits")["requests"]
            one.wait(lambda: one.model("digits")["requests"] > so_far + 50)
        took_over = re.search(r"the process (\d+) took over from (\d+)", one.tail(1000))
        assert took_over is not None
        assert int(took_over[1]) == live.pid
        assert one.model("digits")["restarts"] == 0
    assert (http.lost, http.errors, http.versions) == (0, [], {"1", "2"})
    assert (mqtt.missing, mqtt.errors, mqtt.versions) == ([], [], {"1", "2"})
    assert mqtt.order == list(range(mqtt.sent))


@pytest.mark.parametrize(
    ("content", "verdict", "codes"),
    [
        (models.endless(), "failed", {"too_slow"}),
        (models.greedy(), "failed", {"over_memory"}),
        (models.nan_weights(), "failed", {"nonfinite"}),
        (models.other_signature(), "rejected", {"io_mismatch"}),
        (V2[: len(V2) // 2], "rejected", {"not_a_model"}),
        (b"", "rejected", {"not_a_model"}),
        (b"this is no model\n" * 100, "rejected", {"not_a_model"}),
    ],
    ids=["endless", "greedy", "nan", "other-signature", "truncated", "empty", "text"],
)
def test_a_bad_model_is_refused_while_the_live_one_answers(
    broker: Mosquitto, content: bytes, verdict: str, codes: set[str]
) -> None:
    with (
        box(configuration(broker.url, push=QUICK, model="limits: {run: 1s}")) as one,
        HttpSender(one, pause_s=0.002) as http,
        MqttSender(broker.port, "a", pause_s=0.002) as mqtt,
    ):
        one.wait(lambda: one.model("digits")["requests"] > 50)
        push(broker.port, content)
        one.wait(lambda: install(one)["verdict"] is not None, 40)
        found = install(one)
        assert found["verdict"] == verdict
        assert found["code"] in codes
        assert found["phase"] == "idle"
        so_far = one.model("digits")["requests"]
        one.wait(lambda: one.model("digits")["requests"] > so_far + 50)
    assert (http.lost, http.errors, http.versions) == (0, [], {"1"})
    assert (mqtt.missing, mqtt.errors, mqtt.versions) == ([], [], {"1"})
    assert http.right == first_version_right(http.answers)
    assert mqtt.order == list(range(mqtt.sent))


def test_ota_F37_a_worker_that_dies_by_sigsegv_in_its_trial_is_refused(broker: Mosquitto) -> None:
    # Slow enough that its process can be found while it is on trial.
    with box(configuration(broker.url, push=QUICK)) as one, HttpSender(one, pause_s=0.002) as http:
        one.wait(lambda: one.model("digits")["requests"] > 50)
        live = one.model("digits")["pid"]
        push(broker.port, models.slow_digits(20_000))

        def candidates() -> list[psutil.Process]:
            return [process for process in one.workers() if process.pid != live]

        one.wait(candidates)
        os.kill(candidates()[0].pid, signal.SIGSEGV)
        one.wait(lambda: install(one)["verdict"] is not None)
        assert (install(one)["verdict"], install(one)["code"]) == ("failed", "trial_crash")
    assert (http.lost, http.errors, http.versions) == (0, [], {"1"})


def test_a_rollback_to_a_version_that_is_gone_leaves_the_live_one(broker: Mosquitto, tmp_path: Path) -> None:
    factory = tmp_path / "m.onnx"
    factory.write_bytes(V1)
    with box(configuration(broker.url, push=QUICK, file=factory)) as one, HttpSender(one, pause_s=0.002) as http:
        push(broker.port, V2)
        one.wait(settled(one, "2"))
        factory.unlink()
        code, body, _ = one.request("POST", "/edged/models/digits/rollback")
        assert (code, json.loads(body)["code"]) == (409, "no_previous")
        factory.write_bytes(b"no model any more")
        assert one.request("POST", "/edged/models/digits/rollback")[0] == 409
        so_far = one.model("digits")["requests"]
        one.wait(lambda: one.model("digits")["requests"] > so_far + 50)
        assert one.model("digits")["version"] == "2"
        assert one.model("digits")["restarts"] == 0
    assert (http.lost, http.errors) == (0, [])


def test_a_missing_factory_model_does_not_keep_a_pushed_one_from_starting(broker: Mosquitto, tmp_path: Path) -> None:
    factory = tmp_path / "m.onnx"
    factory.write_bytes(V1)
    with box(configuration(broker.url, push=QUICK, file=factory)) as one:
        with HttpSender(one, pause_s=0.002):
            push(broker.port, V2)
            one.wait(settled(one, "2"))
        one.stop()
        factory.unlink()
        one.start()
        assert (one.model("digits")["state"], one.model("digits")["version"]) == ("serving", "2")


@pytest.mark.slow
def test_fifty_kills_of_the_worker_lose_nothing(broker: Mosquitto) -> None:
    with (
        box(configuration(broker.url)) as one,
        HttpSender(one) as http,
        MqttSender(broker.port, "a", window=16) as mqtt,
    ):
        for kill in range(50):
            # A hundred answers between two kills, so that they are not taken for the model's own fault.
            target = one.model("digits")["requests"] + 130
            one.wait(lambda target=target: one.model("digits")["requests"] > target)
            os.kill(one.model("digits")["pid"], signal.SIGKILL)
            one.wait(lambda kill=kill: one.model("digits")["restarts"] == kill + 1)
            one.wait(lambda: one.model("digits")["state"] == "serving")
    assert (http.lost, http.errors) == (0, [])
    assert (mqtt.missing, mqtt.errors) == ([], [])


def test_kill_9_of_the_daemon_loses_no_qos1_input(broker: Mosquitto) -> None:
    broker.stop()
    with (
        Mosquitto(broker.folder, "max_queued_messages 0\nmax_inflight_messages 100", port=broker.port),
        box(configuration(f"mqtt://127.0.0.1:{broker.port}")) as one,
        MqttSender(broker.port, "a", window=400, pause_s=0.001, most=3000) as sender,
    ):
        for _ in range(3):
            target = len(sender.answered) + 300
            one.wait(lambda target=target: len(sender.answered) > target)
            one.kill()
            time.sleep(0.5)  # the sender goes on meanwhile, and the broker keeps what it sends
            one.start()
        one.wait(lambda: sender.sent == 3000, 60)
        sender.wait_all(30)
        assert (sender.missing, sender.errors) == ([], [])
