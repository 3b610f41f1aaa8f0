"""The MQTT transport against a real Mosquitto, MQTT 5 and 3.1.1, on uvloop and on asyncio's loop (RULES 17, 19)."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.config import schema
from edged.config.units import Size
from edged.errors import fault
from edged.messages import Answer
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.stream import Stream
from tests.brokers import PASSWORD, USERNAME, Mosquitto, have_mosquitto
from tests.certificates import Authority
from tests.integration.mqtt.box import DIGITS, TREE, Box, User, run, running, until
from tests.ports import free_port

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed")

INFER = TREE.infer("digits")
RESULT = TREE.result("digits")
ERROR = TREE.error("digits")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker"), "max_queued_messages 0") as broker:
        yield broker


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("plain", [False, True])
def test_answers_in_order_with_parameters(broker: Mosquitto, version: str, plain: bool) -> None:
    async def scenario() -> None:
        async with running(Box(broker.url, version=version)) as box:
            with User(broker.port, f"{TREE.root}/#", five=version == "5") as user:
                for number in range(200):
                    user.client.publish(INFER, f"n{number}", 1)
                await until(lambda: len(user.on(RESULT)) == 200)
                answers = user.json(RESULT)
                assert [answer["text"] for answer in answers] == [f"n{number}" for number in range(200)]
                parameters = answers[-1]["parameters"]
                assert parameters["seq"] == 200
                assert parameters["topic"] == INFER
                assert 0 <= parameters["age_ms"] < 10_000
                assert abs(parameters["ts"] - answers[0]["parameters"]["ts"]) < 10_000
                user.send(f"{INFER}/a-1", "x", 0)
                await until(lambda: user.on(f"{RESULT}/a-1"))
            facts = box.mqtt.facts()
            assert (facts.connected, facts.version) == (True, version)
            assert facts.dropped == {}
            assert box.mqtt.alive()

    run(scenario, plain=plain)


def test_a_character_that_paho_refuses_does_not_end_the_session(broker: Mosquitto) -> None:
    """U+FEFF in a property: the broker carries it, and sent it again on each connection of the session."""

    async def scenario() -> None:
        async with running(Box(broker.url)) as box:
            with User(broker.port, RESULT) as user:
                user.send(INFER, "odd", ContentType="\ufefftext", UserProperty=[("\ufeff", "\ufeff")])
                user.send(INFER, "even")
                await until(lambda: len(user.on(RESULT)) == 2)
                assert [answer["text"] for answer in user.json(RESULT)] == ["odd", "even"]
            assert box.mqtt.facts().reconnects == 0

    run(scenario)


def test_result_has_a_content_type_on_5(broker: Mosquitto) -> None:
    async def scenario() -> None:
        async with running(Box(broker.url)):
            with User(broker.port, RESULT) as user:
                user.send(INFER, "x")
                await until(lambda: user.on(RESULT))
                assert user.properties(RESULT)[0].ContentType == "application/json"

    run(scenario)


def test_nagle_is_off_on_both_connections(broker: Mosquitto) -> None:
    async def scenario() -> None:
        async with running(Box(broker.url)) as box:
            wire = box.mqtt._link.wire
            assert wire is not None
            stream = wire.client.socket()
            assert isinstance(stream, Stream)
            assert isinstance(stream._sock, socket.socket)
            assert stream._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(scenario)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_tls_and_password(tmp_path: Path, version: str) -> None:
    async def scenario() -> None:
        with Mosquitto(tmp_path, tls=True) as broker:
            box = Box(broker.url, version=version, ca=str(broker.ca), username=USERNAME, password=PASSWORD, session=60)
            async with running(box):
                loop = asyncio.get_running_loop()
                command = ["mosquitto_rr", "-h", "localhost", "-p", str(broker.port), "--cafile", str(broker.ca)]
                command += ["-u", USERNAME, "-P", PASSWORD, "-V", "mqttv311", "-t", INFER, "-e", RESULT, "-m", "hello"]
                done = await loop.run_in_executor(
                    None, lambda: subprocess.run(command, capture_output=True, timeout=20)
                )
                assert b'"text":"hello"' in done.stdout

    run(scenario)


def test_wrong_password_and_unknown_authority_say_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        with Mosquitto(tmp_path, tls=True) as broker:
            wrong = Box(broker.url, ca=str(broker.ca), username=USERNAME, password="x", version="5")  # noqa: S106  a wrong one
            async with running(wrong, wait=False):
                await until(lambda: "Not authorized" in wrong.mqtt.facts().last_error)
            stranger = Box(broker.url, username=USERNAME, password=PASSWORD)
            async with running(stranger, wait=False):
                await until(lambda: "mqtt.ca" in stranger.mqtt.facts().last_error)
            plain = Box(f"mqtt://127.0.0.1:{broker.port}", version="5")
            async with running(plain, wait=False):
                await until(lambda: "client certificate" in plain.mqtt.facts().last_error)

    run(scenario)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_that_asks_for_a_certificate(tmp_path: Path, version: str) -> None:
    """The broker takes the certificate's name for the user, and lets that one read its own topics alone."""
    (tmp_path / "acl").write_text("pattern readwrite edged/%u/#\n")
    ask = f"cafile {tmp_path}/ca.crt\nrequire_certificate true\nuse_identity_as_username true\nacl_file {tmp_path}/acl"

    async def scenario() -> None:
        with Mosquitto(tmp_path, ask, tls=True) as broker:
            certificate, key = map(str, broker.authority.issue("press-07"))
            async with running(Box(broker.url, version=version, ca=str(broker.ca), cert=certificate, key=key)) as box:
                box.mqtt.retain(TREE.info, b"{}")
                await until(lambda: box.connected and box.mqtt.facts().pushes_connected)
                seen = [
                    "mosquitto_sub",
                    "-h",
                    "localhost",
                    "-p",
                    str(broker.port),
                    "-t",
                    TREE.status,
                    "-C",
                    "1",
                    "-W",
                    "10",
                ]
                seen += ["--cafile", str(broker.ca), "--cert", certificate, "--key", key]
                done = await asyncio.to_thread(subprocess.run, seen, capture_output=True, timeout=20)
                assert done.stdout == b"online\n"
            without = Box(broker.url, version=version, ca=str(broker.ca))
            async with running(without, wait=False):
                await until(lambda: "certificate" in without.mqtt.facts().last_error)

    run(scenario)


def test_a_certificate_of_another_authority_is_refused_and_a_new_one_taken_up(tmp_path: Path) -> None:
    """What was right at the start may be wrong later, and the other way round: the files are read at each attempt."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ask = f"cafile {tmp_path}/ca.crt\nrequire_certificate true\nuse_identity_as_username true"

    async def scenario() -> None:
        with Mosquitto(tmp_path, ask, tls=True) as broker:
            certificate, key = Authority(elsewhere).issue("press-07")
            box = Box(broker.url, version="5", ca=str(broker.ca), cert=str(certificate), key=str(key))
            async with running(box, wait=False):
                await until(lambda: "certificate" in box.mqtt.facts().last_error)
                key.unlink()
                await until(lambda: f"{key} does not exist" in box.mqtt.facts().last_error, 20)
                good, good_key = broker.authority.issue("press-07")
                certificate.write_bytes(good.read_bytes())
                key.write_bytes(good_key.read_bytes())
                await until(lambda: box.connected, 30)

    run(scenario)


def test_broker_comes_after_the_daemon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        broker = Mosquitto(tmp_path, port=free_port())
        box = Box(broker.url)
        async with running(box, wait=False):
            box.mqtt.retain(TREE.info, b'{"a":1}')
            await until(lambda: "is the broker running" in box.mqtt.facts().last_error)
            assert box.mqtt.alive()
            assert not box.mqtt.facts().connected
            await asyncio.sleep(1.5)  # for a second attempt
            told = [one for one in caplog.records if "is the broker running" in one.message]
            assert len(told) == 1  # not once an attempt; pushes wait for the data connection
            broker.start()
            await until(lambda: box.connected)
            with User(broker.port, f"{TREE.root}/#") as user:
                await until(lambda: user.on(TREE.status) and user.on(TREE.info))
                assert user.on(TREE.status)[0].payload == b"online"
        broker.stop()

    run(scenario)


def test_killed_broker_gets_every_state_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        with Mosquitto(tmp_path) as broker:
            async with running(Box(broker.url)) as box:
                box.mqtt.retain(TREE.info, b"old")
                box.mqtt.retain(TREE.info, b"new")
                box.mqtt.retain(TREE.model_status("digits"), b"serving")
                await until(lambda: box.connected)
                broker.kill()
                await until(lambda: not box.mqtt.facts().connected)
                assert box.mqtt.alive()
                box.mqtt.publish(TREE.telemetry, b"lost", 0)
                assert box.mqtt.facts().dropped == {"offline": 1}
                broker.start()
                await until(lambda: box.connected)
                with User(broker.port, f"{TREE.root}/#") as user:
                    await until(lambda: len(user.messages) >= 3)
                    states = {message.topic: message.payload for message in user.messages}
                assert states == {
                    TREE.info: b"new",
                    TREE.model_status("digits"): b"serving",
                    TREE.status: b"online",
                }
                assert box.mqtt.facts().reconnects == 1

    run(scenario)


def test_will_and_goodbye(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with User(broker.port, TREE.status) as user:
            async with running(Box(broker.url)) as box:
                await until(lambda: user.on(TREE.status)[-1:] and user.on(TREE.status)[-1].payload == b"online")
                wire = box.mqtt._link.wire
                assert wire is not None
                wire.close("cut")
                await until(lambda: user.on(TREE.status)[-1].payload == b"offline")
                await until(lambda: user.on(TREE.status)[-1].payload == b"online")
                count = len(user.messages)
            await until(lambda: len(user.messages) == count + 1)
            assert user.on(TREE.status)[-1].payload == b"offline"

    run(scenario)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_kept_session_brings_inputs_back(broker: Mosquitto, version: str) -> None:
    """What came while the box was away, and what it had not answered when it went."""

    async def scenario() -> None:
        with User(broker.port, f"{RESULT}/#") as user:
            first = Box(broker.url, version=version)
            first.lane.open = False
            async with running(first):
                user.send(f"{INFER}/held", "held")
                await until(lambda: first.lane.queue)
            user.send(f"{INFER}/away", "away")
            async with running(Box(broker.url, version=version)):
                await until(lambda: user.on(f"{RESULT}/held") and user.on(f"{RESULT}/away"))
            assert len(user.messages) == 2
            async with running(Box(broker.url, version=version)) as third:
                user.send(f"{INFER}/new", "new")
                await until(lambda: user.on(f"{RESULT}/new"))
                assert [item.id for item in third.lane.seen] == ["new"]

    run(scenario)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_burst_that_waited_in_the_session_is_answered_in_full(broker: Mosquitto, version: str) -> None:
    async def scenario() -> None:
        async with running(Box(broker.url, version=version)):
            pass
        with User(broker.port, RESULT) as user:
            for number in range(5000):
                user.client.publish(INFER, f"n{number}", 1)
            async with running(Box(broker.url, version=version)) as box:
                await until(lambda: len(user.messages) >= 5000, 30)
                assert [answer["text"] for answer in user.json(RESULT)] == [f"n{number}" for number in range(5000)]
                assert box.mqtt.facts().dropped == {}

    run(scenario)


def test_late_acknowledgement_is_not_sent(broker: Mosquitto) -> None:
    """The answer to an input of an old connection leaves, its acknowledgement does not: the input comes back."""

    async def scenario() -> None:
        with User(broker.port, f"{RESULT}/#") as user:
            async with running(Box(broker.url)) as box:
                box.lane.open = False
                user.send(f"{INFER}/one", "one")
                await until(lambda: len(box.lane.queue) == 1)
                wire = box.mqtt._link.wire
                assert wire is not None
                wire.close("cut")
                await until(lambda: len(box.lane.queue) == 2)  # the broker did not hear of it and sends it again
                box.lane.queue[0].reply(Answer(b"{}", 0, "1"))
                await until(lambda: len(user.messages) == 1)
                wire = box.mqtt._link.wire
                assert wire is not None
                wire.close("cut")
                await until(lambda: len(box.lane.queue) == 3)  # the first answer acknowledged nothing
                box.lane.open = True
                box.lane.work()
                await until(lambda: box.connected)

    run(scenario)


def test_response_topic_and_correlation(broker: Mosquitto) -> None:
    async def scenario() -> None:
        async with running(Box(broker.url)) as box:
            with User(broker.port, "answers/me", f"{TREE.root}/#") as user:
                user.send(INFER, "x", ResponseTopic="answers/me", CorrelationData=b"\x00\x01")
                await until(lambda: user.on("answers/me"))
                properties = user.properties("answers/me")[0]
                assert properties.CorrelationData == b"\x00\x01"
                assert properties.UserProperty == [("status", "ok")]
                assert properties.ContentType == "application/json"
                box.lane.answer = lambda _item: fault("bad_input", "no")
                user.send(INFER, "x", ResponseTopic="answers/me", CorrelationData=b"2")
                await until(lambda: len(user.on("answers/me")) == 2)
                properties = user.properties("answers/me")[1]
                assert (properties.UserProperty, properties.CorrelationData) == ([("status", "error")], b"2")
                assert user.json("answers/me")[1]["code"] == "bad_input"
                assert not user.on(RESULT)
                assert not user.on(ERROR)
                # Not where it would come back as an input.
                user.send(INFER, "x", ResponseTopic=INFER)
                await until(lambda: user.on(ERROR))
                assert "response topic" in user.json(ERROR)[0]["message"]

    run(scenario)


def test_content_type_reaches_the_worker(broker: Mosquitto) -> None:
    async def scenario() -> None:
        async with running(Box(broker.url)) as box:
            with User(broker.port) as user:
                user.send(INFER, b"\x93NUMPY", ContentType="application/x-npy")
                await until(lambda: box.lane.seen)
                assert box.lane.seen[0].content_type == "application/x-npy"

    run(scenario)


@pytest.mark.parametrize("arguments", [["-V", "mqttv5", "-e", "answers/rr"], ["-V", "mqttv311", "-e", RESULT]])
def test_mosquitto_rr(broker: Mosquitto, arguments: list[str]) -> None:
    async def scenario() -> None:
        async with running(Box(broker.url)):
            command = ["mosquitto_rr", "-p", str(broker.port), "-t", INFER, "-m", "hello", "-W", "10", *arguments]
            loop = asyncio.get_running_loop()
            done = await loop.run_in_executor(None, lambda: subprocess.run(command, capture_output=True, timeout=20))
            assert b'"text":"hello"' in done.stdout

    run(scenario)


def test_configured_topics_with_levels(broker: Mosquitto) -> None:
    model = schema.Model(
        "digits",
        inputs=(schema.Input("cells/+cell/scan"), schema.Input("cells/#", qos=0)),
        output=schema.Output(topic="cells-out/{cell}/digit"),
    )
    other = schema.Model("other", inputs=(schema.Input("cells/7/scan"),))

    async def scenario() -> None:
        async with running(Box(broker.url, model, other)) as box:
            with User(broker.port, "cells-out/#", f"{TREE.root}/models/other/#") as user:
                user.send("cells/7/scan", "x")
                await until(lambda: user.on("cells-out/7/digit") and user.on(TREE.result("other")))
                await asyncio.sleep(0.1)  # for copies that would come later
                assert len(user.messages) == 2
                assert [(item.model, item.form) for item in box.lane.seen] == [("digits", 0), ("other", 0)]

    run(scenario)


def test_partial_overlap_runs_once_on_5(broker: Mosquitto) -> None:
    """Mosquitto sends one copy a subscription on MQTT 5; each model takes one of them."""
    model = schema.Model("digits", inputs=(schema.Input("a/+x"), schema.Input("+y/b")))

    async def scenario() -> None:
        async with running(Box(broker.url, model)) as box:
            with User(broker.port) as user:
                user.send("a/b", "x")
                user.send("c/b", "y")
                await until(lambda: len(box.lane.seen) == 2)
                await asyncio.sleep(0.1)
                assert [item.form for item in box.lane.seen] == [0, 1]

    run(scenario)


def test_retained_request_is_ignored_and_a_reading_taken_once(broker: Mosquitto) -> None:
    model = schema.Model("digits", inputs=(schema.Input("retained/reading"),))

    async def scenario() -> None:
        with User(broker.port) as user:
            user.send(INFER, "stale", retain=True)
            user.send("retained/reading", "21.5", retain=True)
            async with running(Box(broker.url, model, version="3.1.1", session=0)) as box:
                await until(lambda: box.lane.seen)
                wire = box.mqtt._link.wire
                assert wire is not None
                wire.close("cut")
                await until(lambda: not box.connected)
                await until(lambda: box.connected)
                await asyncio.sleep(0.2)
                assert [item.payload for item in box.lane.seen] == [b"21.5"]
            user.send(INFER, "", retain=True)
            user.send("retained/reading", "", retain=True)

    run(scenario)


def test_input_above_the_limit_is_told_on_311_and_withheld_on_5(broker: Mosquitto) -> None:
    async def scenario() -> None:
        with User(broker.port, f"{TREE.root}/models/#") as user:
            for version, size in (("3.1.1", 1_000_000), ("5", 65 * 1024)):
                box = Box(broker.url, version=version)
                async with running(box):
                    user.send(f"{INFER}/big", b"x" * size)
                    await until(lambda: user.on(f"{ERROR}/big"))
                    assert user.json(f"{ERROR}/big")[0]["code"] == "input_too_large"
                    assert box.dropped == [("digits", "input_too_large")]
                    user.messages.clear()
            async with running(Box(broker.url, version="5")) as box:
                user.send(f"{INFER}/big", b"x" * 1_000_000)  # the broker knows our Maximum Packet Size
                user.send(f"{INFER}/small", b"x")
                await until(lambda: user.on(f"{RESULT}/small"))
                assert [item.id for item in box.lane.seen] == ["small"]

    run(scenario)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_oversized_result_never_breaks_the_connection(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edged.transports.mqtt.backoff._FIRST_S", 0.05)

    async def scenario() -> None:
        with Mosquitto(tmp_path, "max_packet_size 100000") as broker, User(broker.port, f"{TREE.root}/#") as user:
            async with running(Box(broker.url, version=version)) as box:
                small = box.lane.answer
                box.lane.answer = lambda _item: Answer(b'{"a":"' + b"x" * 200_000 + b'"}', 0, "1")
                user.send(f"{INFER}/one", "x")
                if version == "5":  # the broker has said its limit
                    await until(lambda: user.on(f"{ERROR}/one"))
                    assert user.json(f"{ERROR}/one")[0]["code"] == "output_too_large"
                else:  # it cuts the connection, until the message is given up; then its size is known
                    await until(lambda: user.on(f"{ERROR}/one"), 20)
                    assert box.mqtt.facts().dropped["refused_by_broker"] == 1
                    await until(lambda: box.connected)
                    said = user.json(f"{ERROR}/one")[0]
                    assert (said["code"], "bytes end the connection" in said["message"]) == ("refused_by_broker", True)
                    user.send(f"{INFER}/again", "x")
                    await until(lambda: user.on(f"{ERROR}/again"))
                    assert user.json(f"{ERROR}/again")[0]["code"] == "output_too_large"
                box.lane.answer = small
                user.send(f"{INFER}/two", "x")
                await until(lambda: user.on(f"{RESULT}/two"), 20)
                if version == "5":
                    assert box.mqtt.facts().reconnects == 0

    run(scenario)


def test_a_result_on_a_forbidden_topic_is_told(tmp_path: Path) -> None:
    """On 3.1.1 Mosquitto confirms it all the same: nobody can tell."""
    (tmp_path / "acl").write_text("topic readwrite edged/#\ntopic read in/#\n")

    async def scenario() -> None:
        model = schema.Model("digits", inputs=(schema.Input("in"),), output=schema.Output(topic="forbidden"))
        with Mosquitto(tmp_path, f"acl_file {tmp_path}/acl") as broker, User(broker.port, ERROR) as user:
            async with running(Box(broker.url, model)) as box:
                box.lane.seen.clear()
                for _ in range(2):
                    box.mqtt._intake.take(Arrival("in", b"x", 0, False, 0, 1))
                await until(lambda: len(user.on(ERROR)) == 2)
                said = user.json(ERROR)[0]
                assert (said["code"], "not authorized" in said["message"]) == ("refused_by_broker", True)
                assert box.dropped == [("digits", "refused_by_broker")] * 2
                assert box.mqtt.facts().reconnects == 0

    run(scenario)


def test_blocked_inputs_wait_and_keep_their_order(broker: Mosquitto) -> None:
    async def scenario() -> None:
        async with running(Box(broker.url)) as box:
            box.lane.size, box.lane.open = 4, False
            with User(broker.port, RESULT) as user:
                for number in range(400):
                    user.client.publish(INFER, f"n{number}", 1)
                # Receive Maximum: the broker sends no more than 256 that are not acknowledged.
                await until(lambda: box.mqtt.facts().waiting == 252)
                await asyncio.sleep(0.1)
                assert box.mqtt.facts().waiting == 252
                box.lane.open = True
                box.lane.work()
                await until(lambda: len(user.messages) == 400)
                assert [answer["text"] for answer in user.json(RESULT)] == [f"n{number}" for number in range(400)]
                assert box.dropped == []

    run(scenario)


def test_flood_past_the_room_pauses_then_drops(tmp_path: Path) -> None:
    """3.1.1 and a broker that does not wait for acknowledgements: keepalive / 2 of pause, then drops."""

    async def scenario() -> None:
        config = "max_queued_messages 0\nmax_inflight_messages 0"
        with Mosquitto(tmp_path, config) as broker, User(broker.port, f"{TREE.root}/models/#") as user:
            async with running(Box(broker.url, version="3.1.1", keepalive=2)) as box:
                box.lane.size, box.lane.open = 4, False
                for number in range(600):
                    user.client.publish(INFER, f"n{number}", 1)
                await until(lambda: box.mqtt.facts().waiting >= 256)
                assert box.dropped == []
                used_s = time.thread_time()  # of the loop alone: the user has a thread of its own
                await asyncio.sleep(0.5)
                assert time.thread_time() - used_s < 0.25  # paused, not polling
                assert box.dropped == []
                await until(lambda: len(box.dropped) + box.mqtt.facts().waiting + 4 == 600)
                assert set(box.dropped) == {("digits", "flood")}
                assert box.mqtt.facts().connected
                box.lane.open = True
                box.lane.work()
                await until(lambda: len(user.on(RESULT)) + len(user.on(ERROR)) == 600)
                answers = [int(answer["text"][1:]) for answer in user.json(RESULT)]
                assert answers == sorted(answers)
                assert box.mqtt.facts().reconnects == 0

    run(scenario)


def test_errors_without_an_asker_are_limited(broker: Mosquitto) -> None:
    async def scenario() -> None:
        async with running(Box(broker.url)) as box:
            box.lane.answer = lambda _item: fault("bad_input", "no")
            with User(broker.port, f"{ERROR}/#") as user:
                for _ in range(100):
                    user.send(INFER, "x", 0)
                user.send(INFER, "x", 1)
                user.send(f"{INFER}/b b", "x", 1)
                user.send(f"{INFER}/c", "x", 0)
                await until(lambda: user.on(f"{ERROR}/c"))
                assert user.json(f"{ERROR}/c")[0]["id"] == "c"
                limited = len(user.on(ERROR)) - 2
                assert 10 <= limited < 30
                assert box.mqtt.facts().dropped["error_rate"] == 100 - limited

    run(scenario)


def test_denied_subscription_is_reported(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite edged/#\n")
    acl.chmod(0o600)
    model = schema.Model("digits", inputs=(schema.Input("forbidden/+x"), schema.Input("allowed")))

    async def scenario() -> None:
        # Mosquitto 2.0 grants a forbidden subscription and stays silent; the connection must live all the same.
        with Mosquitto(tmp_path, f"acl_file {acl}") as broker, User(broker.port, RESULT) as user:
            async with running(Box(broker.url, model)) as box:
                user.send(INFER, "x")
                await until(lambda: user.on(RESULT))
                assert box.mqtt.facts().quarantined == ()

    run(scenario)


def test_stop_without_a_broker_is_quick() -> None:
    async def scenario() -> None:
        box = Box(f"mqtt://127.0.0.1:{free_port()}")
        async with running(box, wait=False):
            pass
        assert not box.mqtt.facts().connected

    run(scenario)


def test_model_limits_apply_each(broker: Mosquitto) -> None:
    small = schema.Model("small", limits=schema.Limits(message=Size(10)))

    async def scenario() -> None:
        async with running(Box(broker.url, small, DIGITS)):
            with User(broker.port, f"{TREE.root}/models/#") as user:
                user.send(f"{TREE.infer('small')}/a", "x" * 11)
                user.send(f"{INFER}/a", "x" * 11)
                await until(lambda: user.on(f"{TREE.error('small')}/a") and user.on(f"{RESULT}/a"))

    run(scenario)


def test_retained_readings_that_waited_come_again_after_a_loss(tmp_path: Path) -> None:
    """They were acknowledged as old ones, and nobody had answered them."""
    model = schema.Model("digits", inputs=(schema.Input("kept/+"),))

    async def scenario() -> None:
        with Mosquitto(tmp_path) as broker, User(broker.port, RESULT) as user:
            for number in range(5):
                user.send(f"kept/{number}", str(number), retain=True)
            box = Box(broker.url, model)
            box.lane.size, box.lane.open = 1, False
            async with running(box):
                await until(lambda: box.mqtt.facts().waiting == 4)
                wire = box.mqtt._link.wire
                assert wire is not None
                stream = wire.client.socket()
                assert isinstance(stream, Stream)
                assert isinstance(stream._sock, socket.socket)
                stream._sock.shutdown(socket.SHUT_RDWR)
                await until(lambda: box.mqtt.facts().reconnects == 1)
                await until(lambda: box.mqtt.facts().waiting)
                box.lane.size, box.lane.open = 100, True
                box.lane.work()
                box.mqtt.on_room("digits")
                await until(lambda: {one["text"] for one in user.json(RESULT)} == set("01234"))

    run(scenario)
