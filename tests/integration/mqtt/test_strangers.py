"""Brokers that are not Mosquitto: amqtt, and small ones made here that do what some brokers were seen to do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal

import pytest

from edged.config import schema
from edged.config.units import Size
from edged.messages import Answer
from edged.transports.mqtt.namesake import first_look, signs
from tests.brokers import Amqtt
from tests.integration.mqtt.box import TREE, Box, User, run, running, until

CONNACK_311 = b"\x20\x02\x00\x00"
Handler = Callable[[int, bytes, asyncio.StreamWriter], None]


async def packets(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """(type, body) of each packet that a client sends."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            kind = (await reader.readexactly(1))[0]
            length, shift = 0, 0
            while True:
                byte = (await reader.readexactly(1))[0]
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            yield kind >> 4, await reader.readexactly(length)


@contextlib.asynccontextmanager
async def broker(handle: Handler, *, pushes: bool = False) -> AsyncIterator[str]:
    """A broker that does with each packet of the data connection what `handle(type, body, writer)` says.

    `pushes`: and with those of the connection of pushes.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for kind, body in packets(reader):
            if kind == 1 and b"-ota" in body and not pushes:
                break
            handle(kind, body, writer)
            if writer.is_closing():
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def level(body: bytes) -> int:
    """The protocol level of a CONNECT: 5 or 4."""
    return body[6]


def test_amqtt_is_silent_to_5_and_gets_311(tmp_path: Path) -> None:
    async def scenario() -> None:
        with Amqtt(tmp_path) as amqtt:
            async with running(Box(amqtt.url)) as box:
                assert box.mqtt.facts().version == "3.1.1"
                with User(amqtt.port, TREE.result("digits"), five=False) as user:
                    user.send(TREE.infer("digits"), "hello")
                    await until(lambda: user.json(TREE.result("digits")))
                    assert user.json(TREE.result("digits"))[0]["text"] == "hello"

    run(scenario)


@pytest.mark.parametrize("refusal", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00", b""])
def test_broker_without_5(refusal: bytes) -> None:
    """CONNACK code 1, CONNACK 0x84, and closing without a word: 3.1.1 is next."""
    seen: list[int] = []

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            seen.append(level(body))
            if level(body) == 5:
                writer.write(refusal)
                writer.close()
            else:
                writer.write(CONNACK_311)
        elif kind == 8:
            count = sum(1 for _ in filters(body[2:]))
            writer.write(bytes([0x90, 2 + count]) + body[:2] + b"\x01" * count)

    async def scenario() -> None:
        async with broker(handle) as url:
            box = Box(url)
            async with running(box, wait=False):
                await until(lambda: box.mqtt.facts().connected)
                assert box.mqtt.facts().version == "3.1.1"
                # Each connection comes after a look whether the name is free, unless the look got no further.
                assert seen == ([5, 4, 4] if refusal else [5, 5, 5, 5, 4, 4])

    run(scenario)


def filters(body: bytes) -> list[str]:
    """The filters of a 3.1.1 SUBSCRIBE after its packet identifier."""
    found = []
    while body:
        length = int.from_bytes(body[:2], "big")
        found.append(body[2 : 2 + length].decode())
        body = body[3 + length :]
    return found


def test_filter_that_ends_the_connection_is_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ answers a forbidden SUBSCRIBE by closing (measured): the other topics must work all the same."""
    monkeypatch.setattr("edged.transports.mqtt.backoff._FIRST_S", 0.02)
    asked: list[str] = []

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            writer.write(CONNACK_311)
        elif kind == 8:
            wanted = filters(body[2:])
            asked.extend(wanted)
            if "forbidden/+" in wanted:
                writer.close()
            else:
                granted = bytes(0x80 if one == "denied" else 1 for one in wanted)
                writer.write(bytes([0x90, 2 + len(granted)]) + body[:2] + granted)

    inputs = tuple(schema.Input(topic) for topic in ("forbidden/+x", "denied", "fine"))

    async def scenario() -> None:
        async with broker(handle) as url:
            box = Box(url, schema.Model("digits", inputs=inputs), version="3.1.1")
            async with running(box, wait=False):
                await until(lambda: "fine" in asked and box.mqtt.facts().connected)
                facts = box.mqtt.facts()
                assert facts.quarantined == ("forbidden/+",)
                await until(lambda: box.mqtt.facts().refused == ("denied",))
                assert asked.count("forbidden/+") == 2
                looks = [one for one in asked if one in (*first_look(TREE), *signs(TREE))]
                assert next(one for one in asked if one not in looks) == f"{TREE.root}/request/+"
            count = len(asked)
            await asyncio.sleep(0.3)
            assert len(asked) == count  # a stopped box does not come back

    run(scenario)


def test_a_result_that_ends_the_connection_is_given_up_told_and_not_tried_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NATS answers a forbidden PUBLISH by closing (measured), as does any broker one above a limit it never told."""
    monkeypatch.setattr("edged.transports.mqtt.backoff._FIRST_S", 0.02)
    monkeypatch.setattr("edged.transports.mqtt.backoff._MOST_S", 0.05)
    inputs = [schema.Input("in/+name")]
    model = schema.Model("digits", inputs=tuple(inputs), output=schema.Output(topic="out/{name}"))
    connects: list[int] = []
    came: list[tuple[str, bytes]] = []

    def publish(writer: asyncio.StreamWriter, topic: str) -> None:
        body = len(topic).to_bytes(2, "big") + topic.encode() + b"x"
        writer.write(bytes([0x30, len(body)]) + body)

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            connects.append(1)
            writer.write(CONNACK_311)
        elif kind == 8:
            wanted = filters(body[2:])
            writer.write(bytes([0x90, 2 + len(wanted)]) + body[:2] + b"\x01" * len(wanted))
            if "in/+" in wanted and not came:
                for name in ("bad", "good", "bad"):
                    publish(writer, f"in/{name}")
        elif kind == 3:
            end = 2 + int.from_bytes(body[:2], "big")
            topic = body[2:end].decode()
            if topic == "out/bad":
                writer.close()
                return
            came.append((topic, body[end + 2 :]))
            writer.write(b"\x40\x02" + body[end : end + 2])

    async def scenario() -> None:
        async with broker(handle) as url:
            box = Box(url, model, version="3.1.1")
            async with running(box, wait=False):
                errors = TREE.error("digits")
                await until(lambda: [topic for topic, _ in came].count(errors) == 2, 20)
                await until(lambda: "out/good" in dict(came))
                told = [payload for topic, payload in came if topic == errors]
                assert all(b'"refused_by_broker"' in payload and b"out/bad" in payload for payload in told)
                assert box.dropped == [("digits", "refused_by_broker")] * 2
                assert box.mqtt.facts().dropped == {"refused_by_broker": 2}
                count = len(connects)
                await until(lambda: box.connected)
                await asyncio.sleep(0.3)
                assert len(connects) <= count + 1
                assert box.connected

    run(scenario)


def test_a_broker_that_sends_and_does_not_read_is_left() -> None:
    """Else what it is owed would grow with all that it sends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = packets(reader)
        _, body = await anext(asked)
        if b"-test-" in body:  # the look whether the name is free
            writer.close()
            return
        writer.write(CONNACK_311)
        _, body = await anext(asked)
        writer.write(b"\x90" + bytes([2 + len(filters(body[2:]))]) + body[:2] + b"\x01" * len(filters(body[2:])))
        topic = TREE.infer("digits").encode()
        message = len(topic).to_bytes(2, "big") + topic + b"\0\1" + b"x" * 50
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"\x32" + bytes([len(message)]) + message)
                await asyncio.sleep(0.001)

    async def scenario() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
        box = Box(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}", version="3.1.1", keepalive=1)
        box.lane.answer = lambda _item: Answer(b'{"a":"' + b"x" * 200_000 + b'"}', 0, "1")
        async with running(box, wait=False):
            await until(lambda: "has taken nothing" in box.mqtt.facts().last_error, 30)
        server.close()

    run(scenario)


def test_a_message_that_takes_several_keepalives_arrives() -> None:
    """A picture over a slow line: the broker's answer to a ping is behind it, and it would come anew each time."""
    size = 200_000
    model = schema.Model("digits", limits=schema.Limits(message=Size(size)))
    connects: list[int] = []
    served: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        asked = packets(reader)
        _, body = await anext(asked)
        if b"-test-" not in body and b"-ota" not in body:
            connects.append(level(body))
            writer.write(CONNACK_311)
            _, body = await anext(asked)
            writer.write(b"\x90" + bytes([2 + len(filters(body[2:]))]) + body[:2] + b"\x01" * len(filters(body[2:])))
            topic = TREE.infer("digits").encode()
            body = len(topic).to_bytes(2, "big") + topic + b"\0\1" + b"x" * size
            message = b"\x32" + bytes([len(body) & 127 | 128, len(body) >> 7 & 127 | 128, len(body) >> 14]) + body
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(message), size // 10):
                    if writer.is_closing():
                        break
                    writer.write(message[start : start + size // 10])
                    await asyncio.sleep(0.5)  # the slow line that this is about
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            box = Box(url, model, version="3.1.1", keepalive=1)
            async with running(box, wait=False):
                await until(lambda: box.lane.seen or len(connects) > 1, 30)
                assert [len(item.payload) for item in box.lane.seen] == [size]
                assert len(connects) == 1
        finally:
            server.close()
            # A connection that its server leaves open keeps uvloop from closing, for ever.
            await asyncio.gather(*(task for task in served if task is not None))

    run(scenario)


def publish(topic: str, payload: bytes, head: int = 0x32, mid: int = 1) -> bytes:
    """A PUBLISH of 3.1.1, at QoS 1 or 2."""
    body = len(topic).to_bytes(2, "big") + topic.encode() + mid.to_bytes(2, "big") + payload
    size = len(body)
    return bytes([head, size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21]) + body


def granted(body: bytes) -> bytes:
    """The SUBACK of 3.1.1 to a SUBSCRIBE."""
    count = len(filters(body[2:]))
    return bytes([0x90, 2 + count]) + body[:2] + b"\x01" * count


def test_a_message_above_every_limit_is_answered_and_does_not_come_again() -> None:
    """3.1.1 has no word for our limit: its sender did nothing that the broker forbids."""
    acknowledged: list[bytes] = []
    told: list[bytes] = []

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            writer.write(CONNACK_311)
        elif kind == 8:
            writer.write(granted(body))
            if TREE.root + "/request/+" in filters(body[2:]):
                writer.write(publish(TREE.infer("digits"), bytes(3_000_000)) + publish(TREE.infer("digits"), b"fine"))
        elif kind == 4:
            acknowledged.append(body)
        elif kind == 3:
            told.append(body)
            end = 2 + int.from_bytes(body[:2], "big")
            writer.write(b"\x40\x02" + body[end : end + 2])

    async def scenario() -> None:
        async with broker(handle) as url:
            box = Box(url, version="3.1.1")
            async with running(box, wait=False):
                await until(lambda: [bytes(item.payload) for item in box.lane.seen] == [b"fine"])
                await until(lambda: len(acknowledged) == 2)
                (error,) = [body for body in told if TREE.error("digits").encode() in body]
                assert b"input_too_large" in error
                assert b"3000000 bytes" in error
                assert box.mqtt.facts().reconnects == 0

    run(scenario)


@pytest.mark.parametrize(
    ("more", "version", "why"),
    [
        (b"\x90\xff\xff\xff\x7f", "3.1.1", "a packet of 268435455 bytes"),
        (b"\x32\xff\xff\xff\x7f", "5", "a packet of 268435455 bytes"),
        (b"\x20\x02\0\0", "3.1.1", "a second CONNACK"),
        (b"\x20\x03\0\0\0", "5", "a second CONNACK"),
        (b"\xe0\x06\x81\x04\x1f\0\1\xff", "5", ""),  # a DISCONNECT with text that is no UTF-8
        (b"\xe0\x0a\x81\x08\x1f\0\1x\x1f\0\1x", "5", ""),  # and one with a property that comes twice
    ],
)
def test_a_broker_that_breaks_the_protocol_is_left(more: bytes, version: Literal["5", "3.1.1"], why: str) -> None:
    """With a reason; it is no fault of ours."""

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            writer.write(CONNACK_311 if version == "3.1.1" else b"\x20\x03\0\0\0")
            if b"-test-" not in body:
                writer.write(more)

    async def scenario() -> None:
        async with broker(handle) as url:
            box = Box(url, version=version)
            async with running(box, wait=False):
                await until(lambda: box.mqtt.facts().last_error)
                assert why in box.mqtt.facts().last_error
                assert box.bugs == 0

    run(scenario)


def test_a_message_at_qos_2_is_taken_once_and_not_kept() -> None:
    """Of a subscription that somebody else made under our client id."""
    said: list[tuple[int, bytes]] = []
    message = publish(TREE.infer("digits"), b"x", 0x34, 7)

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            writer.write(CONNACK_311)
        elif kind == 8:
            writer.write(granted(body))
            if TREE.root + "/request/+" in filters(body[2:]):
                writer.write(message + message + b"\x62\x02\0\7" + publish(TREE.infer("digits"), b"y", 0x34, 7))
        elif kind in (5, 7):
            said.append((kind, body))

    async def scenario() -> None:
        async with broker(handle) as url:
            box = Box(url, version="3.1.1")
            async with running(box, wait=False):
                await until(lambda: len(said) == 4)
                assert said == [(5, b"\0\7"), (5, b"\0\7"), (7, b"\0\7"), (5, b"\0\7")]
                assert [bytes(item.payload) for item in box.lane.seen] == [b"x", b"y"]

    run(scenario)


@pytest.mark.parametrize(
    "junk", [b"\x30\x02\x00\x09", b"\xff\xff\xff\xff\xff\xff", b"\x90\x00", b"\x32\x05\x00\x01\xff\x00\x01"]
)
def test_junk_from_a_broker_ends_the_connection_at_most(junk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edged.transports.mqtt.backoff._FIRST_S", 0.02)
    connects: list[int] = []

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == 1:
            connects.append(level(body))
            writer.write(CONNACK_311 + junk)

    async def scenario() -> None:
        broken: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: broken.append(context))
        async with broker(handle) as url:
            box = Box(url, version="3.1.1")
            await box.mqtt.start()
            await until(lambda: connects)
            await asyncio.sleep(0.1)
            assert box.mqtt.alive()
            await box.mqtt.stop()
            assert (box.bugs, broken) == (0, [])

    run(scenario)


def test_broker_that_closes_at_once_is_not_hammered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edged.transports.mqtt.backoff._FIRST_S", 0.05)
    connects: list[int] = []

    def handle(kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        connects.append(kind)
        writer.close()

    async def scenario() -> None:
        async with broker(handle) as url:
            box = Box(url)
            async with running(box, wait=False):
                await asyncio.sleep(1.5)
                assert 6 <= len(connects) <= 24  # an attempt is a look and a connection
                assert "client certificate" in box.mqtt.facts().last_error
                assert box.mqtt.alive()

    run(scenario)
