"""Pushed models come on a connection of their own, in a thread of its own (RULES 18, 20).

A message of 100 MiB keeps paho busy for 400 ms (measured), which must not be the loop's. The thread
hands one push to the loop and waits until it was taken before it reads on, so at most one is held here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from edged.config.addresses import Broker
from edged.errors import Fault, fault
from edged.topics import Tree
from edged.transports.mqtt.backoff import Backoff
from edged.transports.mqtt.dialer import NO_CONNACK, Dialer, explain
from edged.transports.mqtt.packets import subscribe_arguments, user_property
from edged.transports.mqtt.subscriptions import Subscription
from edged.transports.mqtt.versions import Ending, Version, Versions

_log = logging.getLogger(__name__)
_SILENCE_S: Final = 5.0
_SETTLED_S: Final = 5.0
_TURN_S: Final = 0.25  # how soon the thread notices that it is to end
_UNSUPPORTED: Final = 0x84


class Pushes:
    """`on_push(model, payload, version, retained)` and `on_refused(model, fault)` are called in the loop.

    The connection follows the data connection: to the same broker, and not before that one was greeted.
    """

    def __init__(
        self,
        dialer: Dialer,
        tree: Tree,
        models: Sequence[str],
        max_size: int,
        *,
        on_push: Callable[[str, bytes, str | None, bool], None],
        on_refused: Callable[[str, Fault], None],
    ) -> None:
        self._dialer = dialer
        # Exact filters: a wildcard gets no retained messages on RabbitMQ, and asks for other names' pushes.
        self._tree = tree
        self._models = {tree.push(model): model for model in models}
        self._renew = False
        self._max_size = max_size
        self._on_push = on_push
        self._on_refused = on_refused
        self._target: Broker | None = None  # written in the loop, read in the thread, as is the next
        self._held = False
        self._versions = {broker: Versions(dialer.settings.version) for broker in dialer.brokers}
        self._backoff = Backoff()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connected = False
        self._unsupported = False
        self._refusal = ""
        self.last_error = ""

    def follow(self, broker: Broker) -> None:
        """Listens for pushes at this broker from now on, and at no other."""
        self._target, self._held = broker, False
        self._wake.set()
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="edged-mqtt-push", daemon=True)
            self._thread.start()

    def hold(self) -> None:
        """The data connection is away: what is under way here goes on, and nothing new is dialled."""
        self._held = True

    def let_go(self) -> None:
        """The name is another machine's: its pushes are not ours."""
        self._target = None
        self._wake.set()

    def adopt(self, models: Sequence[str], max_size: int, dialer: Dialer) -> None:
        """Other models, or another limit, which the broker is told with a new connection. The thread follows."""
        self._models = {self._tree.push(model): model for model in models}
        if max_size != self._max_size:
            self._max_size, self._dialer, self._renew = max_size, dialer, True

    async def stop(self, limit_s: float = 2.0) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, limit_s)

    @property
    def connected(self) -> bool:
        return self._connected

    def alive(self) -> bool:
        return self._stop.is_set() or self._thread is None or self._thread.is_alive()

    # --- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.clear()  # before anything is looked at, so that no change is slept through
            if self._stop.is_set():
                return
            broker = self._target
            if broker is None or self._held:
                self._wake.wait()
                continue
            started_s = time.monotonic()
            versions = self._versions[broker]
            text, how = self._connection(broker, versions)
            if self._stop.is_set() or broker != self._target:
                continue
            if how is None and time.monotonic() - started_s > _SETTLED_S:
                self._backoff.reset()
            at_once = how is not None and versions.failed(how)
            delay_s = 0.0 if at_once else self._backoff.next_s()
            level = logging.WARNING if text != self.last_error else logging.DEBUG
            _log.log(level, "pushes over %s: %s", broker.url, text)
            self.last_error = text
            self._wake.wait(delay_s)

    def _connection(self, broker: Broker, versions: Versions) -> tuple[str, Ending | None]:
        """One connection from dialling to its end: why it ended, and how when there was no good CONNACK."""
        self._renew = False
        version = versions.current
        client = self._dialer.client(version)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        self._connected = self._unsupported = False
        self._refusal = ""
        try:
            self._dialer.dial(client, version, broker)
        except (OSError, ValueError) as error:
            return explain(error, broker), None
        silent = not self._serve(client, broker, versions)
        was_connected, self._connected = self._connected, False
        if self._renew:
            return "connecting anew, as push.max_size has changed", None
        if was_connected:
            return "the connection was lost", None
        if self._unsupported:
            return f"the broker does not speak MQTT {version}", Ending.UNSUPPORTED
        if self._refusal:
            versions.worked()
            return f"the broker refused the connection: {self._refusal}", None
        if silent:
            return f"no CONNACK within {_SILENCE_S:.0f} s", Ending.SILENT
        return NO_CONNACK, Ending.CLOSED

    def _serve(self, client: Client, broker: Broker, versions: Versions) -> bool:
        """Runs the connection until it ends or another is wanted; False when the broker said nothing at all."""
        deadline_s = time.monotonic() + _SILENCE_S
        subscribed: dict[str, str] = {}
        while not self._stop.is_set() and not self._renew and self._target == broker:
            try:
                if client.loop(_TURN_S) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                    return True
            except Exception:  # noqa: BLE001  no byte of a broker may end the thread; logged, dialled again
                _log.exception("the push connection failed on what the broker sent")
                return True
            if self._connected and subscribed is not (models := self._models):
                versions.worked()
                self._subscribe(client, versions.current, subscribed, models)
                subscribed = models
            if not self._connected and time.monotonic() > deadline_s:
                client.connect_async("closed")  # the documented way to drop a connection at once
                return False
        client.disconnect()
        return True

    @staticmethod
    def _subscribe(client: Client, version: Version, before: dict[str, str], now: dict[str, str]) -> None:
        if gone := [topic for topic in before if topic not in now]:
            client.unsubscribe(gone)
        filters = [Subscription(topic, 1) for topic in now if topic not in before]
        for start in range(0, len(filters), 8):
            batch = filters[start : start + 8]
            client.subscribe(**subscribe_arguments(batch, version, identifiers=False, retain_as_published=True))

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._connected = not reason.is_failure
        self._unsupported = reason.value == _UNSUPPORTED
        self._refusal = str(reason) if reason.is_failure else ""

    def _on_subscribe(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            _log.warning("the broker does not let this box subscribe to its push topics: %s", reasons[0])

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        try:
            model = self._models.get(message.topic)
        except UnicodeDecodeError:
            model = None
        if model is None:
            return
        if len(message.payload) > self._max_size:
            size = f"the pushed file has {len(message.payload)} bytes; push.max_size is {self._max_size}"
            problem = fault("too_large", size, "Raise push.max_size, or push a smaller model.")
            self._in_loop(self._on_refused, model, problem)
            return
        self._in_loop(self._on_push, model, message.payload, user_property(message, "version"), message.retain)

    def _in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        """Calls it in the loop and waits for it, so that the next push is not read before."""
        taken = threading.Event()

        def call() -> None:
            try:
                function(*arguments)
            finally:
                taken.set()

        loop = self._loop
        if loop is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(call)
        while not taken.wait(_TURN_S) and not self._stop.is_set():
            pass
