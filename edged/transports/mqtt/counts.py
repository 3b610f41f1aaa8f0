"""What the MQTT transport knows about itself: counters while it runs, and the facts that others may see."""

from __future__ import annotations

import msgspec

from edged.transports.mqtt.backlog import Stored


class Facts(msgspec.Struct, frozen=True):
    """A snapshot for status and telemetry. `since_ms` is wall clock; an URL carries no secret.

    `connected`: all is subscribed, so that what is sent now is heard. `url` is the broker that serves or was
    tried last, of `urls` in their order. `version` is "" while there is no connection; `waiting` are inputs
    that a full lane left waiting; `downgraded` messages went at QoS 0 for want of room, `queued` are those that the
    broker has not confirmed, those among them that lie on the disk are the `outbox`; `refused` and
    `quarantined` are filters. `namesake` is the host of another machine
    that is online under our name, while we wait for it. `pushes_url` is the broker that pushes
    come from; `pushes_refused` counts subscriptions of the connection of
    pushes that the broker refused.
    """

    connected: bool
    version: str
    url: str
    urls: tuple[str, ...]
    since_ms: int
    reconnects: int
    published: int
    downgraded: int
    queued: int
    outbox: Stored
    waiting: int
    dropped: dict[str, int]
    refused: tuple[str, ...]
    quarantined: tuple[str, ...]
    last_error: str
    namesake: str
    pushes_connected: bool
    pushes_url: str
    pushes_refused: int


class Counts:
    """Messages published, those of QoS 1 among them that went at QoS 0, and messages dropped, by reason."""

    def __init__(self) -> None:
        self.published = 0
        self.downgraded = 0
        self.dropped: dict[str, int] = {}

    def drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
