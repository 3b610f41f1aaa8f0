"""A fleet on a real broker, for tests: many devices in one thread, each with a connection of its own.

with Devices(broker.port, 100, trust) as devices:
    devices.fail(release, ["box-0003"])
    devices.wait(lambda: len(devices.running(release)) > 90)
"""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from edged.delivery.documents import Trust
from tests.devices import STEPS, Device


class Devices:
    """`count` devices of one group `half` (every second one) and all. `pace_s`: what each phase takes, about."""

    def __init__(self, port: int, count: int, trust: Trust, *, base: str = "edged", pace_s: float = 0.02) -> None:
        self._port = port
        self._base = base
        self._trust = trust
        self._pace_s = pace_s
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._clients: dict[str, Client] = {}
        self._socks: dict[str, Any] = {}
        self._said: dict[str, list[MQTTMessageInfo]] = {}
        self._away: set[str] = set()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="devices")
        self._fault: BaseException | None = None
        names = [f"box-{number:04}" for number in range(count)]
        self.devices = {name: self._device(name, index) for index, name in enumerate(names)}

    def _device(self, name: str, index: int) -> Device:
        return Device(name, ["half"] if index % 2 else [], self._trust, self._base, self._pace_s)

    def __enter__(self) -> Self:
        for device in self.devices.values():
            self._connect(device)
        self._thread.start()
        self.wait(lambda: all(self.heard(name) for name in self.devices))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join(20)
        for device in self.devices.values():
            self._drop(device)
        self._selector.close()

    @property
    def names(self) -> list[str]:
        return sorted(self.devices)

    @contextmanager
    def held(self) -> Iterator[dict[str, Device]]:
        """The devices, while nothing happens to them."""
        with self._lock:
            yield self.devices

    def fail(self, release: str, names: Iterable[str], phase: str = "trial", code: str = "golden") -> None:
        """These devices will find the release wanting."""
        with self._lock:
            for name in names:
                self.devices[name].flaws[release] = (phase, code)

    def mend(self) -> None:
        """No release fails anywhere any more."""
        with self._lock:
            for device in self.devices.values():
                device.flaws.clear()

    def running(self, release: str) -> set[str]:
        """Who runs this release."""
        with self._lock:
            return {one.name for one in self.devices.values() if one.active == release}

    def idle(self) -> bool:
        """Whether nothing is under way anywhere."""
        with self._lock:
            return all(one.phase not in STEPS for one in self.devices.values())

    def heard(self, name: str) -> bool:
        """Whether this device has come, and the broker has confirmed all that it said since."""
        with self._lock:
            return self.devices[name].greeted and all(one.is_published() for one in self._said[name])

    def add(self, name: str) -> None:
        """One more, that was in a drawer."""
        with self._lock:
            self.devices[name] = self._device(name, 0)
            self._connect(self.devices[name])

    def cut(self, names: Iterable[str]) -> None:
        """The power of these goes: the broker publishes their will."""
        with self._lock:
            for name in names:
                self._drop(self.devices[name])

    def back(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                self._connect(self.devices[name])

    def wait(self, condition: Callable[[], object], limit_s: float = 60.0) -> None:
        """Until it holds."""
        until_s = time.monotonic() + limit_s
        while not condition():
            if self._fault is not None:
                raise RuntimeError("the fleet's thread has ended") from self._fault
            if time.monotonic() > until_s:
                raise AssertionError(f"it did not happen within {limit_s:g} s")
            time.sleep(0.02)

    # --- the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            misc_s = 0.0
            while not self._ends.is_set():
                for key, _ in self._selector.select(0.01):
                    with self._lock:
                        self._read(key.data)
                with self._lock:
                    for device in self.devices.values():
                        device.tick()
                        self._write(device)
                    if time.monotonic() > misc_s:
                        misc_s = time.monotonic() + 1
                        for client in self._clients.values():
                            client.loop_misc()
                        for name in tuple(self._away):
                            self._connect(self.devices[name])
        except BaseException as error:  # noqa: BLE001 - `wait` raises it
            self._fault = error

    def _read(self, device: Device) -> None:
        client = self._clients.get(device.name)
        if client is not None and client.loop_read() is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._drop(device)
            self._connect(device)

    def _write(self, device: Device) -> None:
        client = self._clients.get(device.name)
        while client is not None and client.want_write():
            if client.loop_write() is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                break

    def _connect(self, device: Device) -> None:
        client = Client(CallbackAPIVersion.VERSION2, client_id=device.name, reconnect_on_failure=False)
        client.max_inflight_messages_set(0)
        client.will_set(device.tree.status, b"offline", 1, True)

        def on_message(_client: Client, _data: Any, message: MQTTMessage) -> None:
            device.on_message(message.topic, bytes(message.payload))

        def on_connect(*_: Any) -> None:
            client.subscribe([(topic, 1) for topic in device.wanted_topics])
            device.say_hello()

        client.on_message = on_message
        client.on_connect = on_connect
        try:
            client.connect("127.0.0.1", self._port, keepalive=60)
        except OSError:
            self._away.add(device.name)  # the broker is; `_run` tries again
            return
        self._away.discard(device.name)
        self._said[device.name] = []
        device.retain = partial(_retain, client, self._said[device.name])
        sock: Any = client.socket()
        self._clients[device.name], self._socks[device.name] = client, sock
        self._selector.register(sock, selectors.EVENT_READ, device)

    def _drop(self, device: Device) -> None:
        """Closes its socket without a goodbye, if paho has not done so."""
        self._clients.pop(device.name, None)
        device.retain = lambda *_: None
        if (sock := self._socks.pop(device.name, None)) is not None:
            self._selector.unregister(sock)
            sock.close()


def _retain(client: Client, said: list[MQTTMessageInfo], topic: str, payload: bytes) -> None:
    said.append(client.publish(topic, payload, 1, retain=True))
