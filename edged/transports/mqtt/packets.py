"""Between paho's messages and properties and our own values: the only place that names MQTT 5's properties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edged.transports.mqtt.outbox import MAX_PACKET
from edged.transports.mqtt.subscriptions import Subscription
from edged.transports.mqtt.versions import Version


class Greeting(msgspec.Struct, frozen=True):
    """What the broker said in its CONNACK on connection `number`; sizes in bytes.

    `identifiers`: it knows subscription identifiers; `retains`: it keeps retained messages; `shares`: it knows shared
    subscriptions. On 3.1.1 it says nothing but `session_present`.
    """

    number: int
    version: Version
    session_present: bool
    packet_limit: int = MAX_PACKET
    receive_maximum: int = 65_535
    identifiers: bool = False
    retains: bool = True
    shares: bool = True


def greeting(number: int, version: Version, properties: Properties | None, *, session_present: bool) -> Greeting:
    if version != "5" or properties is None:
        return Greeting(number, version, session_present)
    return Greeting(
        number,
        version,
        session_present,
        min(MAX_PACKET, getattr(properties, "MaximumPacketSize", MAX_PACKET)),
        getattr(properties, "ReceiveMaximum", 65_535),
        bool(getattr(properties, "SubscriptionIdentifierAvailable", 1)),
        bool(getattr(properties, "RetainAvailable", 1)),
        bool(getattr(properties, "SharedSubscriptionAvailable", 1)),
    )


def subscribe_arguments(
    batch: Sequence[Subscription],
    version: Version,
    *,
    identifiers: bool,
    again: bool = False,
    retain_as_published: bool = False,
) -> dict[str, Any]:
    """The arguments of paho's `subscribe` for one SUBSCRIBE.

    Retained messages come with a new subscription, not each time an existing one is renewed, unless they are to come
    `again`; 3.1.1 has them come again in any case.
    """
    if version != "5":
        return {"topic": [(one.filter, one.qos) for one in batch]}
    handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if again else SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
    arguments: dict[str, Any] = {
        "topic": [
            (
                one.filter,
                SubscribeOptions(one.qos, retainAsPublished=retain_as_published, retainHandling=handling),
            )
            for one in batch
        ]
    }
    if identifiers and batch[0].identifier:
        arguments["properties"] = fresh(PacketTypes.SUBSCRIBE)
        arguments["properties"].SubscriptionIdentifier = batch[0].identifier
    return arguments


def fresh(kind: int) -> Any:
    """paho sets properties as attributes that its type hints do not declare."""
    return cast("Any", Properties)(kind)
