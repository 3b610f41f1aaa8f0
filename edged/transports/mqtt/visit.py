"""A short connection for one purpose: dial, greet, subscribe, then read and write turn by turn. Blocking."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edged.config.addresses import Broker
from edged.transports.mqtt.dialer import NO_CONNACK, Dialer, explain
from edged.transports.mqtt.packets import Greeting, greeting, subscribe_arguments
from edged.transports.mqtt.subscriptions import Subscription
from edged.transports.mqtt.versions import Ending, Version

_TURN_S: Final = 0.1
_SILENCE_S: Final = 5.0
_UNSUPPORTED: Final = 0x84

Take = Callable[[str, bytes, bool], None]


class Visit:
    """One connection. `take(topic, payload, retained)` gets every message.

    `greeting` is what the broker said to a good CONNECT, `refusal` why it said no; `confirmed` has the
    broker's word on each packet identifier that was published, until it is taken out. While `take` is called,
    `left_s` says for how long the broker keeps this message; None: without an end, or 3.1.1, which has none.
    """

    def __init__(self, dialer: Dialer, broker: Broker, version: Version, take: Take) -> None:
        self.broker: Final = broker
        self.version: Final = version
        self.greeting: Greeting | None = None
        self.refusal: ReasonCode | None = None
        self.confirmed: dict[int, ReasonCode] = {}
        self.left_s: int | None = None
        self._dialer = dialer
        self._take = take
        self._subscribed: list[ReasonCode] | None = None
        self._client = client = dialer.client(version)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe

    def connect(self) -> tuple[str, Ending | None]:
        """Why there is no connection, "" when there is one; and how it ended where no CONNACK came."""
        try:
            self._dialer.dial(self._client, self.version, self.broker)
        except (OSError, ValueError) as error:
            return explain(error, self.broker), None
        until_s = time.monotonic() + _SILENCE_S
        while self.greeting is None and self.refusal is None:
            if not self.turn():
                break
            if time.monotonic() > until_s:
                return f"no CONNACK within {_SILENCE_S:g} s", Ending.SILENT
        # A refusal and the end of the connection may come in one turn.
        refusal: ReasonCode | None = self.refusal
        if refusal is not None:
            how = Ending.UNSUPPORTED if refusal.value == _UNSUPPORTED else None
            return f"the broker refuses the connection: {refusal}", how
        return ("", None) if self.greeting is not None else (NO_CONNACK, Ending.CLOSED)

    def subscribe(self, topics: Sequence[str], limit_s: float, *, qos: int = 1) -> list[ReasonCode] | None:
        """The broker's word on each topic; None when it gave none within the limit, or went away."""
        self._subscribed = None
        batch = [Subscription(topic, qos) for topic in topics]
        self._client.subscribe(**subscribe_arguments(batch, self.version, identifiers=False))
        until_s = time.monotonic() + limit_s
        while self._subscribed is None:
            if not self.turn() or time.monotonic() > until_s:
                return None
        return self._subscribed

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Asks for no more of them; what is under way may still come."""
        self._client.unsubscribe(list(topics))

    def publish(
        self, topic: str, payload: bytes, properties: Properties | None = None, *, qos: int = 1, retain: bool = False
    ) -> int:
        """Sends; the packet identifier, which `confirmed` has once the broker has the message."""
        return self._client.publish(topic, payload, qos, retain, properties).mid

    @property
    def writing(self) -> bool:
        """Whether there is something left to write."""
        return self._client.want_write()

    def turn(self, limit_s: float = _TURN_S) -> bool:
        """Reads and writes once there is something to, within the limit; False when the connection is gone."""
        return self._client.turn(limit_s)

    def close(self) -> None:
        """Says goodbye and closes."""
        with contextlib.suppress(Exception):  # of what the broker sent last, which nobody wants any more
            self._client.disconnect()
            self._client.turn(_TURN_S)
        self._client.connect_async("closed")  # the documented way to close paho's socket at once

    # --- paho's callbacks ---------------------------------------------------------------------------

    def _on_connect(
        self, _client: Client, _data: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self.refusal = reason
        else:
            self.greeting = greeting(0, self.version, properties, session_present=bool(flags.session_present))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.left_s = getattr(message.properties, "MessageExpiryInterval", None)
        self._take(message.topic, bytes(message.payload), message.retain)

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self.confirmed[mid] = reason

    def _on_subscribe(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        self._subscribed = reasons
