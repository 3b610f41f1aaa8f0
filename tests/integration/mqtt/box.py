"""A box for the tests of the MQTT transport: the transport, a lane that answers from the loop, and a user."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import msgspec
import uvloop
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edged.config import schema
from edged.config.units import Size
from edged.errors import Fault
from edged.messages import Admission, Answer, Input, Outcome, Source
from edged.topics import Tree
from edged.transports.mqtt.desk import Recipient
from edged.transports.mqtt.mqtt import Mqtt
from edged.transports.mqtt.namesake import Machine

TREE = Tree("edged", "press-07")
OWN = Machine("0123456789abcdef", "press-07.plant")
DIGITS = schema.Model("digits", limits=schema.Limits(message=Size(64 * 1024)))


def run(scenario: Callable[[], Coroutine[Any, Any, None]], *, plain: bool = False) -> None:
    """Runs a test's coroutine on uvloop, as the daemon does, or on asyncio's own loop."""
    if plain:
        asyncio.run(scenario())
    else:
        uvloop.run(scenario())


async def until(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    """Waits until `condition` holds; fails the test when it does not in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not come true in time")
        await asyncio.sleep(0.005)


class Lane:
    """A real small double of the router: a queue of `size` that answers from the loop with what came in.

    `open` False keeps inputs queued; a QoS 1 input that finds it full is BLOCKED.
    """

    def __init__(self, size: int = 1000) -> None:
        self.size = size
        self.open = True
        self.queue: list[Input] = []
        self.seen: list[Input] = []
        self.on_room: Callable[[str], None] = lambda _model: None
        self.answer: Callable[[Input], Outcome] = lambda item: Answer(
            b'{"model_name":"digits","text":'
            + msgspec.json.encode(bytes(item.payload[:64]).decode(errors="replace"))
            + b"}",
            0,
            "1",
        )

    def offer(self, item: Input) -> Admission:
        if len(self.queue) >= self.size:
            if item.source is Source.MQTT_QOS1:
                return Admission.BLOCKED
            self.queue.pop(0)
        self.queue.append(item)
        self.seen.append(item)
        asyncio.get_running_loop().call_soon(self.work)
        return Admission.TAKEN

    def work(self) -> None:
        if not self.open:
            return
        full = len(self.queue) >= self.size
        queue, self.queue = self.queue, []
        for item in queue:
            item.reply(self.answer(item))
        if full:
            self.on_room("digits")


class Box:
    """The transport with everything it is handed."""

    def __init__(
        self,
        url: str | tuple[str, ...],
        *models: schema.Model,
        push: schema.Push | None = None,
        own: Machine = OWN,
        folder: Path | None = None,
        **settings: Any,
    ) -> None:
        self.lane = Lane()
        self.pushes: list[tuple[str, bytes, str | None, bool]] = []
        self.refused: list[tuple[str, Fault]] = []
        self.documents: list[tuple[str, bytes, bool]] = []
        self.on_document: Callable[[str, bytes, bool], object] = lambda *document: self.documents.append(document)
        self.courier: list[bool] = []
        self.on_courier: Callable[[bool], object] = self.courier.append
        self.dropped: list[tuple[str, str]] = []
        self.bugs = 0
        self.mqtt = Mqtt(
            schema.Mqtt(
                url=(url,) if isinstance(url, str) else url, **{"client_id": "edged-press-07-test", **settings}
            ),
            TREE,
            models or (DIGITS,),
            own,
            offer=self.lane.offer,
            push=push or schema.Push(),
            recipient=Recipient(
                lambda *push: self.pushes.append(push),
                lambda model, fault: self.refused.append((model, fault)),
                self._document,
                self._courier,
            ),
            dropped=lambda model, reason: self.dropped.append((model, reason)),
            bug=self._bug,
            folder=folder,
        )
        self.lane.on_room = self.mqtt.on_room

    def _bug(self) -> None:
        self.bugs += 1

    def _document(self, topic: str, payload: bytes, retained: bool) -> None:
        self.on_document(topic, payload, retained)

    def _courier(self, connected: bool) -> None:
        self.on_courier(connected)

    @property
    def connected(self) -> bool:
        facts = self.mqtt.facts()
        return facts.connected and not facts.queued


@contextlib.asynccontextmanager
async def running(box: Box, *, wait: bool = True) -> AsyncIterator[Box]:
    await box.mqtt.start()
    try:
        if wait:
            await until(lambda: box.connected, 15)
        yield box
    finally:
        await box.mqtt.stop()
        if box.bugs:
            raise AssertionError(f"{box.bugs} faults of our own: see the log")


class User:
    """Somebody else at the broker, in paho's own thread: collects what comes on `filters`."""

    def __init__(
        self,
        port: int,
        *filters: str,
        five: bool = True,
        auth: tuple[str, str | None] | None = None,
        ca: Path | None = None,
        **connect: Any,
    ) -> None:
        self.messages: list[MQTTMessage] = []
        self._ready = threading.Event()
        self._subscribed = 0
        self._filters = filters
        protocol = MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311
        self.client = Client(CallbackAPIVersion.VERSION2, protocol=protocol, **connect)
        if auth is not None:
            self.client.username_pw_set(*auth)
        if ca is not None:
            self.client.tls_set(str(ca))
        self.client.on_message = lambda _client, _data, message: self.messages.append(message)
        self.client.on_connect = self._subscribe
        self.client.on_subscribe = self._count
        self.client.connect("127.0.0.1" if ca is None else "localhost", port)
        self.client.loop_start()
        if not self._ready.wait(10):
            raise AssertionError("the user could not subscribe")

    def _subscribe(self, *_: Any) -> None:
        if not self._filters:
            self._ready.set()
        for one in self._filters:
            self.client.subscribe(one, 1)

    def _count(self, *_: Any) -> None:
        self._subscribed += 1
        if self._subscribed >= len(self._filters):
            self._ready.set()

    def on(self, topic: str) -> list[MQTTMessage]:
        return [message for message in list(self.messages) if message.topic == topic]

    def properties(self, topic: str) -> list[Any]:
        return [message.properties for message in self.on(topic)]

    def json(self, topic: str) -> list[dict[str, Any]]:
        return [msgspec.json.decode(message.payload) for message in self.on(topic)]

    def send(self, topic: str, payload: bytes | str, qos: int = 1, *, retain: bool = False, **properties: Any) -> None:
        """Publishes and, at QoS 1, waits for the broker to have it."""
        extra = None
        if properties:
            make: Any = Properties
            extra = make(PacketTypes.PUBLISH)
            for name, value in properties.items():
                setattr(extra, name, value)
        info = self.client.publish(topic, payload, qos, retain, extra)
        info.wait_for_publish(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()  # or the garbage collector finds a pair unclosed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
