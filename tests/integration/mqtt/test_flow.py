"""What runs, what waits and what is dropped, by the words of the configuration: a real daemon, a real Mosquitto."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.observe.clock import WallClock
from tests import models
from tests.box import Box, box
from tests.brokers import Mosquitto
from tests.integration.mqtt.box import User
from tests.waiting import until

STATUS = "edged/box/status"
RESULT = "edged/box/models/m/result"
ERROR = "edged/box/models/m/error"


@contextlib.contextmanager
def flow(
    broker: Mosquitto, folder: Path, model: str, *, content: bytes = b"", version: str = "auto"
) -> Iterator[tuple[Box, User]]:
    """A box with the model `m`, an identity of one number whose runs may take long, and a user who sees everything."""
    file = folder / "m.onnx"
    file.write_bytes(content or models.identity(shape=("batch", 1)))
    configuration = f"""
device: box
mqtt: {{url: "{broker.url}", version: "{version}", keepalive: 5s}}
models:
  m: {{file: {file}, limits: {{run: 60s}}, batch: {{max: 1}}, {model}}}
"""
    with User(broker.port, "#") as user, box(configuration) as one:
        until(lambda: [message for message in user.on(STATUS) if message.payload == b"online"], 20)
        yield one, user


@contextlib.contextmanager
def held(one: Box) -> Iterator[None]:
    """The model's process stands still: what two messages do not take waits in the queue."""
    (worker,) = one.workers()
    worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.send_signal(signal.SIGCONT)


def burst(user: User, *messages: tuple[str, object]) -> None:
    """Publishes at QoS 1; returns when the broker has them all."""
    sent = [user.client.publish(topic, str(payload), 1) for topic, payload in messages]
    for one in sent:
        one.wait_for_publish(20)


def numbers(user: User, topic: str) -> list[float]:
    return [answer["outputs"][0]["data"][0] for answer in user.json(topic)]


def came(one: Box, inputs: int) -> bool:
    """Whether the daemon has that many inputs, in the queue, under way or dropped."""
    m: dict[str, Any] = one.model("m")
    return int(m["queue"] + m["in_flight"] + sum(m["dropped"].values())) == inputs


def test_a_chatty_topic_does_not_starve_another(broker: Mosquitto, tmp_path: Path) -> None:
    with flow(broker, tmp_path, "inputs: [{topic: cells/+}], queue: {per: stream}") as (one, user):
        with held(one):
            burst(user, *[("cells/a", number) for number in range(20)])
            burst(user, *[("cells/b", number) for number in range(100, 103)])
            one.wait(lambda: came(one, 23))
        until(lambda: len(user.on(RESULT)) == 23)
        # Two were under way when the others came.
        assert numbers(user, RESULT)[:8] == [0, 1, 2, 100, 3, 101, 4, 102]


def test_latest_runs_the_newest_of_each_topic_and_acknowledges_the_rest(broker: Mosquitto, tmp_path: Path) -> None:
    with flow(broker, tmp_path, "inputs: [{topic: cells/+}], queue: {overflow: latest}") as (one, user):
        with held(one):
            # More than the broker lets wait unacknowledged.
            burst(user, *[("cells/a" if number % 2 else "cells/b", number) for number in range(600)])
            one.wait(lambda: came(one, 600))
            assert one.model("m")["dropped"] == {"replaced": 596}
        until(lambda: len(user.on(RESULT)) == 4)
        assert numbers(user, RESULT)[2:] == [598, 599]
        assert user.on(ERROR) == []


def test_what_comes_above_max_rate_is_dropped_and_acknowledged(broker: Mosquitto, tmp_path: Path) -> None:
    with flow(broker, tmp_path, "inputs: [{topic: cells/+, max_rate: 2/h}]") as (one, user):
        burst(user, *[("cells/a", 1)] * 300, ("cells/b", 2))  # more than the broker lets wait unacknowledged
        one.wait(lambda: one.model("m")["dropped"] == {"rate_limited": 299})
        until(lambda: numbers(user, RESULT) == [1, 2])
        assert user.on(ERROR) == []


def test_what_waited_longer_than_max_age_is_never_run(broker: Mosquitto, tmp_path: Path) -> None:
    with flow(broker, tmp_path, "inputs: [{topic: cells/+, max_age: 100ms}]") as (one, user):
        with held(one):
            burst(user, *[("cells/a", number) for number in range(10)])
            one.wait(lambda: one.model("m")["queue"] == 8)
            time.sleep(0.2)  # until they are too old
        one.wait(lambda: one.model("m")["dropped"] == {"too_old": 8})
        user.send("cells/a", "10")
        until(lambda: numbers(user, RESULT) == [0, 1, 10])


def test_an_old_time_stamp_is_too_old_unless_the_clock_is_not_set(broker: Mosquitto, tmp_path: Path) -> None:
    entry = "{topic: cells/+, format: values, field: x, time: ts, max_age: 1min}"
    with flow(broker, tmp_path, f"inputs: [{entry}]") as (one, user):
        user.send("cells/a", json.dumps({"x": 1, "ts": 1_000_000}))
        user.send("cells/a", json.dumps({"x": 2, "ts": time.time()}))
        until(lambda: user.on(RESULT) and numbers(user, RESULT)[-1] == 2)
        if WallClock().synced():
            assert numbers(user, RESULT) == [2]
            assert one.model("m")["dropped"] == {"too_old": 1}
        else:
            assert numbers(user, RESULT) == [1, 2]
            assert {answer["parameters"]["clock"] for answer in user.json(RESULT)} == {"unsynced"}


def test_a_retained_result_is_there_for_a_later_subscriber_with_its_expiry(broker: Mosquitto, tmp_path: Path) -> None:
    with flow(broker, tmp_path, "inputs: [{topic: a}], output: {retain: true, expire: 1h}") as (_, user):
        user.send("a", "1")
        until(lambda: user.on(RESULT))
        with User(broker.port, RESULT) as later:
            until(lambda: later.on(RESULT))
            (found,) = later.on(RESULT)
            assert found.retain
        command = ["mosquitto_sub", "-V", "5", "-p", str(broker.port), "-t", RESULT, "-C", "1", "-W", "20", "-F", "%E"]
        left_s = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
        assert 3000 < int(left_s) <= 3600


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_result_that_cannot_be_published_in_time_is_dropped(broker: Mosquitto, tmp_path: Path, version: str) -> None:
    setup = "inputs: [{topic: a}], output: {expire: 1s}"
    with flow(broker, tmp_path, setup, version=version) as (one, user):
        with held(one):
            user.send("a", "1")
            one.wait(lambda: came(one, 1))
            broker.kill()
            one.wait(lambda: not one.status()["daemon"]["mqtt"]["connected"])
        one.wait(lambda: one.model("m")["in_flight"] == 0)
        time.sleep(1.1)  # until it is worth nothing
        broker.start()
        one.wait(lambda: one.status()["daemon"]["mqtt"]["dropped"] == {"expired": 1})
        until(user.client.is_connected)
        one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"])
        user.send("a", "2")
        until(lambda: user.on(RESULT), 20)
        assert numbers(user, RESULT) == [2]


@pytest.mark.parametrize(
    ("steps", "form", "expected"),
    [
        ("[softmax, {labels: [no, maybe, yes]}, {top_k: 2}]", "value", b"yes"),
        ("[{output: y}, {round: 2}]", "value", b"[0.5,1.25,3.0]"),
        ("[argmax]", "raw", struct.pack("<3f", 0.5, 1.25, 3.0)),
    ],
)
def test_a_result_in_few_words(broker: Mosquitto, tmp_path: Path, steps: str, form: str, expected: bytes) -> None:
    setup = f"inputs: [{{topic: a}}], postprocess: {steps}, output: {{topic: said, format: {form}}}"
    with flow(broker, tmp_path, setup, content=models.identity(shape=("batch", 3))) as (_, user):
        user.send("a", "[0.5, 1.25, 3]")
        user.send("edged/box/models/m/infer", "[0.5, 1.25, 3]")
        until(lambda: user.on("said") and user.on(RESULT))
        assert [message.payload for message in user.on("said")] == [expected]
        assert user.json(RESULT)[0]["outputs"]  # a request gets the protocol's response


def test_a_prediction_is_what_a_template_of_home_assistant_takes(broker: Mosquitto, tmp_path: Path) -> None:
    setup = "inputs: [{topic: a}], postprocess: [{labels: [x, y, z]}, {top_k: 2}], output: {format: prediction}"
    with flow(broker, tmp_path, setup, content=models.identity(shape=("batch", 3))) as (_, user):
        user.send("a", "[0.5, 1.25, 3]")
        until(lambda: user.on(RESULT))
        (found,) = user.json(RESULT)
        found = {name: found[name] for name in ("label", "index", "score", "seq", "topic")}
        assert found == {"label": "z", "index": 2, "score": 3.0, "seq": 1, "topic": "a"}


JOINED = """inputs: [
    {topic: cells/+cell/temp, tensor: a},
    {topic: cells/+cell/more, tensor: b, format: values, field: x, time: ts},
  ], output: {topic: "out/{cell}"}"""


def test_two_topics_feed_one_model_by_the_levels_of_their_topics(broker: Mosquitto, tmp_path: Path) -> None:
    with flow(broker, tmp_path, JOINED, content=models.add(shape=("batch", 1)), version="3.1.1") as (one, user):
        # More of one kind than Mosquitto sends unacknowledged on 3.1.1, which is 20.
        burst(user, *[(f"cells/{cell}/temp", cell) for cell in range(60)])
        burst(user, *[(f"cells/{cell}/more", json.dumps({"x": 1000, "ts": 5.0})) for cell in range(60)])
        until(lambda: len([message for message in user.messages if message.topic.startswith("out/")]) == 60, 20)
        for cell in range(60):
            assert numbers(user, f"out/{cell}") == [1000 + cell]
        parameters = user.json("out/7")[0]["parameters"]
        assert (parameters["topic"], parameters["ts"]) == ("cells/7/more", 5000)
        assert one.model("m")["dropped"] == {}


def test_a_model_that_no_topic_feeds_whole_is_a_configuration_error(broker: Mosquitto, tmp_path: Path) -> None:
    setup = "inputs: [{topic: x, format: values}]"
    with flow(broker, tmp_path, setup, content=models.add()) as (one, _):
        fault = one.model("m")["fault"]
        assert (fault["code"], "give a, b a topic each" in fault["message"]) == ("bad_config", True)


def test_a_held_value_is_lent_to_every_run(broker: Mosquitto, tmp_path: Path) -> None:
    setup = "inputs: [{topic: +cell/temp, tensor: a}, {topic: room, tensor: b, hold: 1h}]"
    with flow(broker, tmp_path, setup, content=models.add(shape=("batch", 1))) as (one, user):
        status, answer, _ = one.request("POST", "/v2/models/m/infer", b"1", {"Edged-Topic": "1/temp"})
        assert (status, json.loads(answer)["code"]) == (400, "bad_input")  # alone it makes no run
        user.send("1/temp", "1")
        user.send("room", "100")
        user.send("2/temp", "2")
        user.send("1/temp", "3")
        until(lambda: len(user.on(RESULT)) == 3)
        assert numbers(user, RESULT) == [101, 102, 103]


def http(one: Box, numbers: list[float], **extra: Any) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(numbers)], "data": numbers}
    code, answer = one.infer("m", [tensor], **extra)
    assert (code, answer["model_name"]) == (200, "m")


def test_results_of_http_requests_are_published_too(broker: Mosquitto, tmp_path: Path) -> None:
    setup = "output: {from: all, topic: out}"
    with flow(broker, tmp_path, setup) as (one, user):
        http(one, [1.5])
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [2.5]}
        body = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        code, answer, headers = one.request("POST", "/v2/models/m/infer", body)
        assert (code, len(answer) - int(headers["inference-header-content-length"])) == (200, 4)
        until(lambda: len(user.on("out")) == 2)
        assert numbers(user, "out") == [1.5, 2.5]
        assert [found["parameters"]["seq"] for found in user.json("out")] == [1, 2]


def test_they_are_as_the_steps_left_them(broker: Mosquitto, tmp_path: Path) -> None:
    setup = "postprocess: [{round: 1}], output: {from: all, topic: out, format: value}"
    with flow(broker, tmp_path, setup) as (one, user):
        http(one, [1.26])
        until(lambda: user.on("out"))
        assert user.on("out")[0].payload == b"1.3"


def test_a_missing_member_is_the_last_one_of_its_topic(broker: Mosquitto, tmp_path: Path) -> None:
    setup = "inputs: [{topic: cells/+, format: values, fields: [a, b], missing: last}]"
    with flow(broker, tmp_path, setup, content=models.identity(shape=("batch", 2))) as (_, user):
        for cell, payload in (("1", {"a": 1}), ("1", {"a": 1, "b": 2}), ("2", {"b": 5}), ("1", {"b": 3})):
            user.send(f"cells/{cell}", json.dumps(payload))
        until(lambda: len(user.on(RESULT)) == 2 and len(user.on(ERROR)) == 2)
        assert [answer["outputs"][0]["data"] for answer in user.json(RESULT)] == [[1, 2], [1, 3]]
        assert {problem["code"] for problem in user.json(ERROR)} == {"bad_input"}


def test_a_flood_past_the_waiting_room_pauses_reading_and_is_then_counted(tmp_path: Path) -> None:
    """RULES 19, where the broker does not wait for acknowledgements: nothing is lost without a word."""
    with (
        Mosquitto(tmp_path, "max_queued_messages 0\nmax_inflight_messages 0") as broker,
        flow(broker, tmp_path, "queue: {size: 4}", version="3.1.1") as (one, user),
    ):
        with held(one):
            burst(user, *[("edged/box/models/m/infer", number) for number in range(600)])
            one.wait(lambda: one.model("m")["dropped"].get("flood", 0) > 0)
            assert one.model("m")["queue"] == 4
        until(lambda: len(user.on(RESULT)) + len(user.on(ERROR)) == 600, 30)
        found = numbers(user, RESULT)
        assert found == sorted(found)
        assert {problem["code"] for problem in user.json(ERROR)} == {"queue_full"}
        assert len(user.on(ERROR)) == one.model("m")["dropped"]["flood"]
        assert one.status()["daemon"]["mqtt"]["reconnects"] == 0
        code, metrics, _ = one.request("GET", "/metrics")
        assert (code, b'edged_dropped_total{model="m",reason="flood"}' in metrics) == (200, True)


def test_with_mqtt_5_the_broker_waits_and_nothing_is_dropped(broker: Mosquitto, tmp_path: Path) -> None:
    """RULES 19: Receive Maximum is the size of the waiting room."""
    with flow(broker, tmp_path, "queue: {size: 4}", version="5") as (one, user):
        with held(one):
            burst(user, *[("edged/box/models/m/infer", number) for number in range(600)])
            one.wait(lambda: one.model("m")["queue"] == 4)
            time.sleep(3)  # longer than reading is ever paused here
            assert one.model("m")["dropped"] == {}
        until(lambda: len(user.on(RESULT)) == 600, 30)
        assert numbers(user, RESULT) == list(range(600))


@pytest.mark.parametrize(
    ("overflow", "ran", "dropped"),
    [
        ("reject", [0, 1, 2, 3], {"queue_full": 6}),
        ("drop-newest", [0, 1, 2, 3], {"queue_full": 6}),
        ("drop-oldest", [0, 1, 8, 9], {"queue_full": 6}),
        ("block", list(range(10)), {}),
    ],
)
def test_a_full_queue_does_what_its_word_says(
    broker: Mosquitto, tmp_path: Path, overflow: str, ran: list[int], dropped: dict[str, int]
) -> None:
    with flow(broker, tmp_path, f"queue: {{size: 2, overflow: {overflow}}}, inputs: [{{topic: a}}]") as (one, user):
        with held(one):
            for number in range(2):  # each on its way to the process before the next comes: the queue is empty
                user.send("a", str(number))
                one.wait(lambda number=number: one.model("m")["in_flight"] == number + 1)
            burst(user, *[("a", number) for number in range(2, 10)])
            one.wait(lambda: one.model("m")["dropped"] == dropped and one.model("m")["queue"] == 2)
        until(lambda: len(user.on(RESULT)) == len(ran))
        assert numbers(user, RESULT) == ran
        # Told to whoever sent at QoS 1, where it was not asked for in the configuration.
        assert {problem["code"] for problem in user.json(ERROR)} <= {"queue_full"}


def test_a_deadline_answers_while_the_model_runs(broker: Mosquitto, tmp_path: Path) -> None:
    """Over MQTT and over HTTP; the run goes on, and what it comes to is counted as late."""
    with flow(broker, tmp_path, "queue: {deadline: 300ms}, inputs: [{topic: a}]") as (one, user):
        with held(one):
            user.send("a", "1")
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [2.0]}
            code, answer = one.infer("m", [tensor])
            assert (code, answer["code"]) == (503, "deadline")
            until(lambda: user.on(ERROR))
            assert one.model("m")["in_flight"] == 2
        assert user.json(ERROR)[0]["code"] == "deadline"
        one.wait(lambda: one.model("m")["dropped"] == {"deadline": 2, "late": 2})
        user.send("a", "3")
        until(lambda: user.on(RESULT))
        assert numbers(user, RESULT) == [3]


def test_a_model_that_is_never_idle_does_not_keep_another_waiting(tmp_path: Path) -> None:
    """Each has a queue and a process of its own, and the box's scheduler divides the cores."""
    (tmp_path / "heavy.onnx").write_bytes(models.counting())
    (tmp_path / "quick.onnx").write_bytes(models.identity(shape=("batch", 1)))
    heavy = f"{{file: {tmp_path}/heavy.onnx, queue: {{deadline: 1min}}, limits: {{run: 1min}}, batch: {{max: 1}}}}"
    with (
        box(f"models: {{heavy: {heavy}, quick: {{file: {tmp_path}/quick.onnx}}}}\n") as one,
        socket.socket(socket.AF_UNIX) as client,
    ):
        body = b"[9000000000000000]"  # turns of a loop: it does not end
        client.connect(str(one.socket))
        client.sendall(
            12 * (b"POST /v2/models/heavy/infer HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        )
        one.wait(lambda: one.model("heavy")["queue"] == 10)
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}
        assert [one.infer("quick", [tensor])[0] for _ in range(20)] == [200] * 20
        assert one.model("heavy")["queue"] == 10
        one.kill()  # a stop would wait for what is owed
