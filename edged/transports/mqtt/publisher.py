"""An operator's connection: pushes one file to one box and listens to what becomes of it. Blocking, for commands.

The broker's limit is read from its CONNACK before the file is sent: a message above it would end the
connection, or on MQTT 3.1.1 vanish behind a PUBACK. A PUBACK says that the broker has the file, no more;
only the box's own status says what became of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edged.config import schema
from edged.errors import EdgedError
from edged.transports.mqtt.dialer import NO_CONNACK, Dialer, explain
from edged.transports.mqtt.outbox import MAX_PACKET
from edged.transports.mqtt.packets import Greeting, fresh, greeting, subscribe_arguments
from edged.transports.mqtt.subscriptions import Subscription
from edged.transports.mqtt.versions import Ending, Versions

_ATTEMPTS: Final = 3  # a single close may be anything; the third is made with 3.1.1 at the latest
_TURN_S: Final = 0.1
_SILENCE_S: Final = 5.0
_SUBSCRIBED_S: Final = 10.0
_SETTLE_S: Final = 0.5  # retained messages follow the SUBACK at once; this is for a slow link
_OVERHEAD: Final = 128  # of a PUBLISH besides topic and payload: header, packet identifier, one user property
_UNSUPPORTED: Final = 0x84
_NOBODY: Final = 0x10  # MQTT 5, 3.4.2.1: no matching subscribers

Take = Callable[[str, bytes, bool], None]


class Publisher:
    """One connection at a time, clean session. `take(topic, payload, retained)` gets every message."""

    def __init__(self, settings: schema.Mqtt, client_id: str, take: Take) -> None:
        self._dialer: Final = Dialer(settings, client_id, 0, MAX_PACKET, 20)
        self._versions: Final = Versions(settings.version)
        self._take: Final = take
        self._client: Client | None = None
        self._refusal: ReasonCode | None = None
        self._denied: ReasonCode | None = None
        self._waiting = 0  # for so many SUBACKs
        self._confirmed: dict[int, ReasonCode] = {}
        self.greeting: Greeting | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self, topics: Sequence[str]) -> Greeting:
        """Connects, 5 first and 3.1.1 after it, and subscribes; returns when what is retained has arrived.

        Raises EdgedError `broker`.
        """
        for _ in range(_ATTEMPTS):
            found, text, how = self._attempt()
            if found is not None or how is None:
                break
            self._versions.failed(how)
            self.close()
        if found is None:
            self.close()
            raise EdgedError("broker", f"{self._dialer.broker.url}: {text}", "Check --broker.")
        self._versions.worked()
        self._subscribe(topics)
        return found

    def publish(self, topic: str, payload: bytes, user: Sequence[tuple[str, str]] = ()) -> None:
        """Sends at QoS 1 and waits until the broker has it. Raises EdgedError `too_large` or `broker`.

        `user` properties travel with MQTT 5 only.
        """
        client, limit = self._client, self.greeting.packet_limit if self.greeting else MAX_PACKET
        if client is None:
            raise EdgedError("broker", "there is no connection")
        if len(payload) + len(topic) + _OVERHEAD > limit:
            raise EdgedError(
                "too_large",
                f"the file has {len(payload)} bytes and the broker takes packets of {limit} at most",
                "Raise the broker's limit (Mosquitto: max_packet_size), or push a smaller model.",
            )
        properties: Properties | None = None
        if user and self._versions.current == "5":
            made = fresh(PacketTypes.PUBLISH)
            made.UserProperty = list(user)
            properties = made
        mid = client.publish(topic, payload, 1, False, properties).mid
        while mid not in self._confirmed:
            if not self.turn():
                raise EdgedError(
                    "broker",
                    f"the broker ended the connection while it was sent {len(payload)} bytes",
                    "Its packet limit may be lower (Mosquitto: max_packet_size), or its ACL forbids this topic.",
                )
        reason = self._confirmed.pop(mid)
        if reason.value == _NOBODY:
            raise EdgedError(
                "broker",
                f"the broker took the file, but nobody listens on {topic}",
                "Is the box online, is the model configured there, and is push.require_signature false?",
            )
        if reason.is_failure:
            raise EdgedError("broker", f"the broker refused the file: {reason}", "Check the broker's ACL.")

    def turn(self) -> bool:
        """Reads and writes for a moment; False when the connection is gone."""
        return self._client is not None and self._client.loop(_TURN_S) is MQTTErrorCode.MQTT_ERR_SUCCESS

    def close(self) -> None:
        """Says goodbye and closes."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop(_TURN_S)
            client.connect_async("closed")  # the documented way to close paho's socket at once

    # --- one connection -----------------------------------------------------------------------------

    def _attempt(self) -> tuple[Greeting | None, str, Ending | None]:
        version = self._versions.current
        client = self._client = self._dialer.client(version)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        self.greeting, self._refusal = None, None
        try:
            self._dialer.dial(client, version)
        except (OSError, ValueError) as error:
            return None, explain(error, self._dialer.broker), None
        until_s = time.monotonic() + _SILENCE_S
        while self.greeting is None and self._refusal is None:
            if not self.turn():
                break
            if time.monotonic() > until_s:
                return None, f"no CONNACK within {_SILENCE_S:g} s", Ending.SILENT
        # A refusal and the end of the connection may come in one turn.
        refusal: ReasonCode | None = self._refusal
        if refusal is not None:
            how = Ending.UNSUPPORTED if refusal.value == _UNSUPPORTED else None
            return None, f"the broker refuses the connection: {refusal}", how
        return self.greeting, NO_CONNACK, Ending.CLOSED

    def _subscribe(self, topics: Sequence[str]) -> None:
        client = self._client
        if client is None or not topics:
            return
        self._denied, self._waiting = None, 1
        batch = [Subscription(topic, 1) for topic in topics]
        client.subscribe(**subscribe_arguments(batch, self._versions.current, identifiers=False))
        until_s = time.monotonic() + _SUBSCRIBED_S
        settled_s: float | None = None
        while settled_s is None or time.monotonic() < settled_s:
            if not self.turn() or time.monotonic() > until_s:
                raise EdgedError("broker", "the broker did not answer the subscription", "Check the broker's ACL.")
            if self._waiting == 0 and settled_s is None:
                settled_s = time.monotonic() + _SETTLE_S
        if self._denied is not None:
            raise EdgedError(
                "broker", f"the broker does not let this user read {', '.join(topics)}", "Check the broker's ACL."
            )

    # --- paho's callbacks ---------------------------------------------------------------------------

    def _on_connect(
        self, _client: Client, _data: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refusal = reason
        else:
            self.greeting = greeting(0, self._versions.current, properties, session_present=bool(flags.session_present))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._take(message.topic, bytes(message.payload), message.retain)

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._confirmed[mid] = reason

    def _on_subscribe(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        self._waiting = 0
        self._denied = next((reason for reason in reasons if reason.is_failure), None)
