"""A broker in memory, and the Courier over it: retained messages, subscriptions, connections that break.

What a broker does to the seam is done here too: a subscription brings the retained message at once, a message that is
published later reaches whoever is subscribed then, an empty retained payload removes one, a new connection
subscribes anew, and nothing that was sent meanwhile is kept for it (clean session). Deliveries go through the loop.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from edged.delivery.chunks import cut, sensible_chunk
from edged.delivery.documents import File, Release, encode
from edged.delivery.envelope import Envelope
from edged.topics import Ota, Tree

OnDocument = Callable[[str, bytes, bool], object]  # topic, payload, retained


class Broker:
    """`retained` may be changed by hand; `tamper` sees each delivery of a payload and may change it."""

    def __init__(self, base: str = "edged") -> None:
        self.base: Final = base
        self.ota: Final = Ota(base)
        self.retained: dict[str, bytes] = {}
        self.needs: list[tuple[str, bytes]] = []  # device, payload
        self.on_need: Callable[[str, bytes], None] = lambda _device, _payload: None
        self.tamper: Callable[[str, bytes], bytes | None] = lambda _topic, payload: payload
        self.delivered = 0
        self.most_subscribed = 0
        self._couriers: list[MemoryCourier] = []

    def courier(self, device: str = "press-07") -> MemoryCourier:
        made = MemoryCourier(self, device)
        self._couriers.append(made)
        return made

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        for courier in self._couriers:
            if topic in courier.subscribed:
                courier.deliver(topic, payload, retained=False)

    def upload(self, release: Release, contents: dict[str, bytes], content: bytes) -> None:
        """All that `edged push` would: the envelope, each index, each chunk."""
        self.publish(self.ota.release(key_of(release)), content)
        for sha256, blob in blobs(release, contents).items():
            if blob:
                self.publish(self.ota.blob(sha256), blob)

    def need(self, device: str, payload: bytes) -> None:
        self.needs.append((device, payload))
        self.on_need(device, payload)


class MemoryCourier:
    """One box's connection; `callbacks` first, then `connect`."""

    def __init__(self, broker: Broker, device: str) -> None:
        self._broker: Final = broker
        self._tree: Final = Tree(broker.base, device)
        self._on_document: OnDocument = lambda _topic, _payload, _retained: None
        self._on_courier: Callable[[bool], object] = lambda _up: None
        self._topics: frozenset[str] = frozenset()
        self._connection = 0  # its number; a message is for the connection on which it was sent
        self.connected = False

    def callbacks(self, on_document: OnDocument, on_courier: Callable[[bool], object]) -> None:
        self._on_document, self._on_courier = on_document, on_courier

    @property
    def subscribed(self) -> frozenset[str]:
        return self._topics if self.connected else frozenset()

    def connect(self) -> None:
        self.connected = True
        self._connection += 1
        self._on_courier(True)
        self._subscribe(self._topics)

    def cut(self) -> None:
        self.connected = False
        self._connection += 1
        self._on_courier(False)

    def listen(self, topics: frozenset[str]) -> None:
        added, self._topics = topics - self._topics, topics
        blobs = sum(topic.startswith(self._broker.ota.blob("")) for topic in topics)
        self._broker.most_subscribed = max(self._broker.most_subscribed, blobs)
        if self.connected:
            self._subscribe(added)

    def need(self, payload: bytes) -> None:
        if self.connected:
            self._broker.need(self._tree.device, payload)

    def deliver(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """In the loop's next turn, unless the connection has gone by then."""
        asyncio.get_running_loop().call_soon(self._arrive, self._connection, topic, payload, retained)

    def _subscribe(self, topics: Iterable[str]) -> None:
        for topic in topics:
            if (payload := self._broker.retained.get(topic)) is not None:
                self.deliver(topic, payload, retained=True)

    def _arrive(self, connection: int, topic: str, payload: bytes, retained: bool) -> None:
        if connection != self._connection:
            return
        changed = self._broker.tamper(topic, payload)
        if changed is not None:
            self._broker.delivered += 1
            self._on_document(topic, changed, retained)


# --- releases for tests -----------------------------------------------------------------------------------


def release(contents: dict[str, bytes], model: str = "m", version: int = 2, chunk: int | None = None) -> Release:
    """A release of these files; no tensors: nobody loads it here."""
    files = {name: file_of(content, chunk)[0] for name, content in contents.items()}
    return Release(model, version, 1_764_000_000_000, files, (), ())


def file_of(content: bytes, chunk: int | None = None) -> tuple[File, bytes]:
    size = chunk or sensible_chunk(len(content))
    return cut(pieces(content, size), size)


def pieces(content: bytes, chunk: int) -> Iterator[bytes]:
    return (content[at : at + chunk] for at in range(0, len(content), chunk))


def key_of(document: Release) -> str:
    return hashlib.sha256(encode(document)).hexdigest()


def unsigned(document: Release) -> bytes:
    """The envelope without a signature: who may sign is not the transfer's question."""
    return Envelope("release", encode(document)).encode()


def blobs(document: Release, contents: dict[str, bytes]) -> dict[str, bytes]:
    """Indexes and chunks by their hash."""
    found = {}
    for name, file in document.files.items():
        _, index = file_of(contents[name], file.chunk)
        found[file.index] = index
        for block in pieces(contents[name], file.chunk):
            found[hashlib.sha256(block).hexdigest()] = block
    return found
