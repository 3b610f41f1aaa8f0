"""Many boxes with the real installer, for tests: real keys, stores and fetchers, in one loop on a thread of its own.

Their transport is tests/couriers.py's broker in memory, and one connection bridges it to a real one: what lies
under `ota/` there comes in, what the boxes say goes out. Models are played by tests/routes.py.

    with Boxes(folder, broker.port, 100, operator) as boxes:
        boxes.fail(b"good new", ["box-0003"])
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from edged.config.schema import Model, Probation, Push
from edged.config.units import Duration
from edged.delivery.installer import Installer
from edged.delivery.record import Phase
from edged.delivery.store import Store
from edged.delivery.want import Box
from edged.serving.release import Release
from edged.topics import Ota, Tree
from tests.couriers import Broker
from tests.routes import MemoryGeneration, MemoryRoute
from tests.signing import Operator
from tests.waiting import until

MODEL: Final = "digits"
OLD: Final = b"good old"
SETTINGS: Final = Push(probation=Probation(Duration(0.05), 10))


class Sick(MemoryRoute):
    """A route on which some files misbehave, though elsewhere they are good: `ills` has how, by content."""

    def __init__(self) -> None:
        super().__init__()
        self.ills: dict[bytes, str] = {}

    async def start(self, release: Release, *, candidate: bool = False) -> MemoryGeneration:
        made = await super().start(release, candidate=candidate)
        made.kind = self.ills.get(_content(release), made.kind)
        return made


def _content(release: Release) -> bytes:
    return Path(release.file).read_bytes()


class Installing:
    """One box. `say(topic, payload)` keeps what it says."""

    def __init__(self, name: str, folder: Path, push: Push, memory: Broker, say: Callable[[str, bytes], None]) -> None:
        folder.mkdir()
        factory = folder / "factory.onnx"
        factory.write_bytes(OLD)
        self.name: Final = name
        self.tree: Final = Tree(memory.base, name)
        self.route: Final = Sick()
        self.active = ""
        self.versions: list[str] = []
        self._say: Final = say
        self._courier: Final = memory.courier(name)
        self.installer: Final = Installer(
            [Model(MODEL, str(factory))],
            push,
            Store(folder / "state"),
            route=lambda _model: self.route.as_route(),
            publish=self._publish,
            audit=lambda _decision: None,
            box=Box(name),
            ota=Ota(memory.base),
        )
        self._courier.callbacks(self.installer.orders.on_document, self.installer.orders.on_courier)

    async def run(self) -> None:
        """Until it is cancelled."""
        await self.installer.open()
        if (release := self.installer.boot_release(MODEL)) is not None:
            await self.route.serve(release)
        self._say(self.tree.status, b"online")
        models = [{"name": MODEL, "state": "serving", "version": "1"}]
        self._say(self.tree.info, json.dumps({"edged": "0.1.0", "groups": [], "models": models}).encode())
        self.installer.orders.use(self._courier)
        self._courier.connect()
        try:
            await self.installer.run()
        finally:
            await self.installer.stop()

    def help(self) -> None:
        """The live model has answered, which a probation waits for."""
        if self.installer.phase(MODEL) is Phase.PROBATION and self.route.live is not None:
            self.route.live.tally.runs += 10

    def _publish(self, model: str, status: dict[str, object]) -> None:
        active = msgspec.convert(status["active"], dict[str, Any] | None) or {}
        self.active = str(active.get("release", ""))
        self._say(self.tree.install(model), msgspec.json.encode(status))


class Boxes:
    """`count` boxes, all in no group; folders for them below `folder`."""

    def __init__(self, folder: Path, port: int, count: int, operator: Operator) -> None:
        anchor = folder / "root.json"
        anchor.write_bytes(operator.sign_trust())
        push = msgspec.structs.replace(SETTINGS, trust=str(anchor))
        self._port: Final = port
        self._memory: Final = Broker()
        self._client: Final = Client(CallbackAPIVersion.VERSION2)
        self._client.max_inflight_messages_set(0)
        self._client.max_queued_messages_set(0)
        self.boxes: Final = {
            name: Installing(name, folder / name, push, self._memory, self._say)
            for name in (f"box-{number:04}" for number in range(count))
        }
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="boxes")
        self._task: asyncio.Task[None] | None = None

    @property
    def names(self) -> list[str]:
        return sorted(self.boxes)

    def fail(self, content: bytes, names: Iterable[str], how: str = "nan") -> None:
        """There this file will misbehave."""
        for name in names:
            self.boxes[name].route.ills[content] = how

    def mend(self) -> None:
        for box in self.boxes.values():
            box.route.ills.clear()

    def running(self, release: str) -> set[str]:
        """Who says that it runs this release."""
        return {name for name, box in self.boxes.items() if box.active == release}

    def idle(self) -> bool:
        """Whether nothing is under way anywhere."""
        return all(box.installer.phase(MODEL) is Phase.IDLE for box in self.boxes.values())

    def wait(self, condition: Callable[[], object], limit_s: float = 60.0) -> None:
        """Until it holds."""

        def holds() -> object:
            if self._fault is not None:
                raise RuntimeError("the boxes' thread has ended") from self._fault
            return condition()

        until(holds, limit_s)

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait(self._ready.is_set)
        self._client.on_connect = self._listen
        self._client.on_message = self._hear
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(30)

    def _listen(self, *_: object) -> None:
        self._client.subscribe(f"{Ota(self._memory.base).root}/#", 1)

    def _hear(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._loop.call_soon_threadsafe(self._memory.publish, message.topic, bytes(message.payload))

    def _say(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, 1, retain=True)

    def _live(self) -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except BaseException as error:  # noqa: BLE001 - `wait` raises it
            self._fault = error

    async def _main(self) -> None:
        self._task = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            for box in self.boxes.values():
                group.create_task(box.run())
            self._ready.set()
            while True:
                for box in self.boxes.values():
                    box.help()
                await asyncio.sleep(0.02)
