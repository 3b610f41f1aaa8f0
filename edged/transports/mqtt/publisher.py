"""An operator's connection: pushes one file to one box and listens to what becomes of it. Blocking, for commands.

The broker's limit is read from its CONNACK before the file is sent: a message above it would end the
connection, or on MQTT 3.1.1 vanish behind a PUBACK. A PUBACK says that the broker has the file, no more;
only the box's own status says what became of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edged.config import schema
from edged.errors import EdgedError
from edged.transports.mqtt.caller import Caller
from edged.transports.mqtt.packets import Greeting, fresh
from edged.transports.mqtt.visit import Take, Visit

_SUBSCRIBED_S: Final = 10.0
_CONFIRMED_S: Final = 60.0  # from the last byte written to the broker's word; the kernel may hold some MB of it
_SETTLE_S: Final = 0.5  # retained messages follow the SUBACK at once; this is for a slow link
_OVERHEAD: Final = 128  # of a PUBLISH besides topic and payload: header, packet identifier, one user property
_NOBODY: Final = 0x10  # MQTT 5, 3.4.2.1: no matching subscribers


class Publisher:
    """One connection at a time, clean session. `take(topic, payload, retained)` gets every message.

    `confirmed_s`: how long a broker that has a whole message may take to say so. (A connection that takes no
    bytes is paho's to end: no answer to a ping.)
    """

    def __init__(self, settings: schema.Mqtt, client_id: str, take: Take, *, confirmed_s: float = _CONFIRMED_S) -> None:
        self._caller: Final = Caller(settings, client_id, take)
        self._confirmed_s: Final = confirmed_s
        self._visit: Visit | None = None

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
        self._visit, greeting = self._caller.call()
        self._subscribe(self._visit, topics)
        return greeting

    def publish(self, topic: str, payload: bytes, user: Sequence[tuple[str, str]] = ()) -> None:
        """Sends at QoS 1 and waits until the broker has it. Raises EdgedError `too_large` or `broker`.

        `user` properties travel with MQTT 5 only.
        """
        visit = self._visit
        if visit is None or visit.greeting is None:
            raise EdgedError("broker", "there is no connection")
        limit = visit.greeting.packet_limit
        if len(payload) + len(topic) + _OVERHEAD > limit:
            raise EdgedError(
                "too_large",
                f"the file has {len(payload)} bytes and the broker takes packets of {limit} at most",
                "Raise the broker's limit (Mosquitto: max_packet_size), or push a smaller model.",
            )
        properties: Properties | None = None
        if user and visit.version == "5":
            made = fresh(PacketTypes.PUBLISH)
            made.UserProperty = list(user)
            properties = made
        reason = self._confirmation(visit, visit.publish(topic, payload, properties), len(payload))
        if reason.value == _NOBODY:
            raise EdgedError(
                "broker",
                f"the broker took the file, but nobody listens on {topic}",
                "Is the box online, the model configured, push.require_signature false, push.mqtt this broker?",
            )
        if reason.is_failure:
            raise EdgedError("broker", f"the broker refused the file: {reason}", "Check the broker's ACL.")

    def _confirmation(self, visit: Visit, mid: int, size: int) -> ReasonCode:
        """The broker's PUBACK. Raises EdgedError `broker` when it does not come."""
        until_s = time.monotonic() + self._confirmed_s
        while mid not in visit.confirmed:
            if not visit.turn():
                raise EdgedError(
                    "broker",
                    f"the broker ended the connection while it was sent {size} bytes",
                    "Its packet limit may be lower (Mosquitto: max_packet_size), or its ACL forbids this topic.",
                )
            if visit.writing:
                until_s = time.monotonic() + self._confirmed_s
            elif time.monotonic() > until_s:
                raise EdgedError(
                    "broker",
                    f"the broker was sent {size} bytes and did not confirm them within {self._confirmed_s:g} s",
                    "`edged status` on the box says whether it arrived all the same.",
                )
        return visit.confirmed.pop(mid)

    def turn(self) -> bool:
        """Reads and writes for a moment; False when the connection is gone."""
        return self._visit is not None and self._visit.turn()

    def close(self) -> None:
        """Says goodbye and closes."""
        visit, self._visit = self._visit, None
        if visit is not None:
            visit.close()

    @staticmethod
    def _subscribe(visit: Visit, topics: Sequence[str]) -> None:
        if not topics:
            return
        said = visit.subscribe(topics, _SUBSCRIBED_S)
        settled_s = time.monotonic() + _SETTLE_S
        while said is not None and time.monotonic() < settled_s:
            if not visit.turn():
                said = None
        if said is None:
            raise EdgedError("broker", "the broker did not answer the subscription", "Check the broker's ACL.")
        if any(reason.is_failure for reason in said):
            raise EdgedError(
                "broker", f"the broker does not let this user read {', '.join(topics)}", "Check the broker's ACL."
            )
