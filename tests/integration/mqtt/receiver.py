"""A box that fetches releases: the MQTT transport with transfer's fetcher behind it, and an operator who publishes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edged.delivery.documents import Release
from edged.delivery.fetcher import Fetcher, Progress
from edged.delivery.store import Store
from edged.topics import Ota
from tests.couriers import blobs, key_of, release, unsigned
from tests.integration.mqtt.box import Box, User

OTA = Ota("edged")


class Receiver:
    """`box` is what `running` of box.py starts."""

    def __init__(self, url: str, root: Path, *, patience_s: float = 5.0, **settings: Any) -> None:
        self.box = Box(url, **settings)
        self.store = Store(root)
        self.store.open()
        self.fetcher = Fetcher(self.box.mqtt.courier, self.store, OTA, patience_s=patience_s)
        self.came: Counter[str] = Counter()  # blobs by topic
        self.progress: list[Progress] = []
        self.box.on_document = self._document
        self.box.on_courier = self._courier

    def _document(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic.startswith(OTA.blob("")):
            self.came[topic] += 1
        self.fetcher.on_document(topic, payload, retained=retained)

    def _courier(self, connected: bool) -> None:
        self.box.courier.append(connected)
        if connected:
            self.fetcher.on_connected()
        else:
            self.fetcher.on_lost()

    @property
    def have(self) -> int:
        return self.progress[-1].have if self.progress else 0

    @property
    def waiting(self) -> str:
        return self.progress[-1].waiting if self.progress else ""

    async def fetch(self, document: Release) -> None:
        content = await self.fetcher.document(key_of(document))
        await self.fetcher.files(key_of(document), content, document, self.progress.append)


class Shipment:
    """A release of `size` random bytes and some labels, as an operator has it."""

    def __init__(self, size: int, seed: int = 1) -> None:
        self.contents = {
            "model.onnx": random.Random(seed).randbytes(size),  # noqa: S311 - any bytes, the same each time
            "labels.txt": b"zero\none\n",
        }
        self.release = release(self.contents)
        self.blobs = blobs(self.release, self.contents)

    def messages(self) -> dict[str, bytes]:
        """Everything but the release's document, by topic."""
        return {OTA.blob(sha256): blob for sha256, blob in self.blobs.items()}

    async def publish(self, user: User, wanted: Callable[[str], bool] = lambda _topic: True) -> None:
        """All of it, retained, those topics that are wanted."""
        for topic, payload in self.messages().items():
            if wanted(topic):
                await asyncio.to_thread(user.send, topic, payload, retain=True)
        document = OTA.release(key_of(self.release))
        if wanted(document):
            await asyncio.to_thread(user.send, document, unsigned(self.release), retain=True)
