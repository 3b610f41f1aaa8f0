"""A model and a connection as the observers see them, for their tests."""

from __future__ import annotations

import msgspec

from edged.errors import Fault


class Facts(msgspec.Struct, frozen=True):
    name: str
    state: str = "serving"
    version: str = ""
    sha256: str = ""
    fault: Fault | None = None
    queue: int = 0
    in_flight: int = 0
    pid: int | None = None
    direct: str = ""
    message_limit: int = 1024
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    fallback: str = ""


class Outbox(msgspec.Struct, frozen=True):
    messages: int = 0
    bytes: int = 0
    fault: str = ""
    aside: int = 0


class Mqtt(msgspec.Struct, frozen=True):
    connected: bool = True
    url: str = "mqtt://b:1883"
    reconnects: int = 0
    published: int = 0
    downgraded: int = 0
    queued: int = 0
    outbox: Outbox = Outbox()
    dropped: dict[str, int] = {}
