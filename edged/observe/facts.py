"""What the observers must be told; serving's ModelView is a ModelFacts, the MQTT transport's Facts a MqttFacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edged.errors import Fault


class ModelFacts(Protocol):
    """One model now. `state`: serving, starting, waiting, failed; version and sha256 "" when none is loaded.

    `direct` is the path of its own socket, "" for none; `message_limit` is in bytes.
    """

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def fault(self) -> Fault | None: ...
    @property
    def queue(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def direct(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def message_limit(self) -> int: ...


class OutboxFacts(Protocol):
    """What waits for the broker on the disk."""

    @property
    def messages(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def fault(self) -> str: ...
    @property
    def aside(self) -> int: ...


class MqttFacts(Protocol):
    """The connection now, and its counts since the start: `queued` messages await the broker's word.

    `url` is the broker that serves, or was tried last.
    """

    @property
    def connected(self) -> bool: ...
    @property
    def url(self) -> str: ...
    @property
    def reconnects(self) -> int: ...
    @property
    def published(self) -> int: ...
    @property
    def queued(self) -> int: ...
    @property
    def outbox(self) -> OutboxFacts: ...
    @property
    def dropped(self) -> Mapping[str, int]: ...
