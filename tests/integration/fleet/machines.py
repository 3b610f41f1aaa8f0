"""An operator's machine for tests: fleet.yaml, keys and a trust document made by the commands that people use."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edged import cli
from edged.config import schema
from edged.delivery import documents, envelope
from edged.delivery.documents import RELEASE_FILE, Want
from edged.delivery.envelope import Envelope
from edged.topics import Ota, Tree
from edged.transports.mqtt.retained import Heard, Put, Retained
from tests.brokers import Mosquitto
from tests.signing import file_of, release_of, sha256_of
from tests.waiting import until

CHUNK = 16 * 1024
_MARK = "watcher/mark"


class Machine:
    """Keys of all three roles in one folder, and a broker."""

    def __init__(self, folder: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch, *, version: str = "5") -> None:
        self.folder = folder
        self.broker = broker
        folder.mkdir(exist_ok=True)
        (folder / "fleet.yaml").write_text(f'mqtt: {{url: "{broker.url}", version: "{version}"}}\n')
        monkeypatch.setenv("EDGED_FLEET", str(folder / "fleet.yaml"))
        assert cli.main(["keys", "new", "root", "release", "deploy"]) == 0
        assert cli.main(["trust", "init"]) == 0

    def release(self, data: bytes, *, version: int = 2, created: int = 0, model: str = "digits") -> Path:
        """A signed folder; made just now unless `created` says otherwise."""
        folder = self.folder / f"{model}-{version}"
        folder.mkdir(exist_ok=True)
        (folder / "model.onnx").write_bytes(data)
        plain = release_of({"model.onnx": data}, model=model, version=version)
        made = created or time.time_ns() // 1_000_000
        self.last = msgspec.structs.replace(plain, files={"model.onnx": file_of(data, CHUNK)}, created=made)
        (folder / RELEASE_FILE).write_bytes(Envelope("release", documents.encode(self.last)).encode())
        assert cli.main(["sign", str(folder)]) == 0
        self.sha256 = sha256_of(self.last)
        return folder

    def push(self, *words: object) -> int:
        return cli.main(["push", *map(str, words)])


class Watcher:
    """Anybody's look at the broker."""

    def __init__(self, broker: Mosquitto) -> None:
        self.heard: list[Heard] = []
        self.connection = Retained(schema.Mqtt((broker.url,)), "watcher", self.heard.append)

    def kept(self, *filters: str) -> dict[str, bytes]:
        """What is retained there."""
        self.connection.connect()
        self.heard.clear()
        self.connection.listen([*filters, _MARK], qos=0, settle_s=0)
        # Mosquitto sends what it keeps before it takes the next packet: when this comes back, the rest has come.
        self.connection.put([Put(_MARK, b"", retain=False)], lambda *_: None)
        until(self._marked)
        found = {one.topic: one.payload for one in self.heard if one.retained}
        self.connection.close()
        return found

    def _marked(self) -> bool:
        self.connection.turn()
        return any(one.topic == _MARK for one in self.heard)

    def want(self, model: str, to: str) -> Want | None:
        topic = Ota("edged").want(model, to)
        content = self.kept(topic).get(topic)
        return documents.read_want(envelope.decode(content, "want").payload) if content else None

    def put(self, *messages: Put) -> None:
        self.connection.connect()
        self.connection.put(messages, lambda *_: None)
        self.connection.close()


def says(device: str, *, presence: str = "online", groups: tuple[str, ...] = (), **install: Any) -> list[Put]:
    """What a box with the model digits keeps on the broker."""
    tree = Tree("edged", device)
    info = {"groups": groups, "models": [{"name": "digits", "state": "serving", "version": "1"}]}
    return [
        Put(tree.status, presence.encode()),
        Put(tree.info, msgspec.json.encode(info)),
        Put(tree.install("digits"), msgspec.json.encode({"phase": "idle", **install})),
    ]
