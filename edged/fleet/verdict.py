"""Why a broker does not keep a message: found out with small ones, which are taken away again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from edged.errors import EdgedError
from edged.transports.mqtt.retained import Heard, Lost, Put, Retained

KEEPS_NOTHING: Final = "the broker does not keep retained messages"
KEEPS_NOTHING_HINT: Final = (
    "Turn them on (Mosquitto: retain_available true): orders and documents are retained with --serve too."
)
_LEAST: Final = 1024  # bytes; no release can be cut into smaller pieces
_TINY: Final = 64
_KIB: Final = 1024


def too_large(size: int, limit: int) -> EdgedError:
    """A piece of `size` bytes where the broker takes payloads of `limit`."""
    if limit < _LEAST:
        hint = "Raise the broker's limit (Mosquitto: max_packet_size): no release has so small pieces."
    else:
        fits = limit // _KIB * _KIB
        hint = f"Make the release with `--chunk {fits // _KIB}KiB`, or raise the limit (Mosquitto: max_packet_size)."
    return EdgedError("too_large", f"the broker's packet limit is {limit} bytes, and a piece has {size}", hint)


def refused(put: Put, reason: str) -> EdgedError:
    """The broker said no, as MQTT 5 lets it."""
    where = put.topic.rpartition("/")[0]
    if "authorized" in reason.lower():
        return EdgedError("forbidden", f"the broker's ACL forbids {where}: {reason}", _acl(where))
    return EdgedError("broker", f"the broker refuses {where}: {reason}", "Has it room? `--serve` needs none.")


def explain(make: Callable[[Callable[[Heard], None]], Retained], put: Put | None) -> EdgedError:
    """Why `put` does not stay, though nobody says so. Blocks for some seconds."""
    if put is None:
        return EdgedError("broker", "the broker ends the connection again and again", "See the broker's log.")
    where = put.topic.rpartition("/")[0]
    attempt = _Attempt(make)
    kept = attempt.keeps(where, min(_TINY, len(put.payload)))
    if kept:
        size = len(put.payload) // 2
        while size > _LEAST and not attempt.keeps(where, size):
            size //= 2
        return too_large(len(put.payload), size)
    if attempt.lost:
        return EdgedError(
            "broker",
            f"the broker ends the connection at a retained message on {where}",
            f"{KEEPS_NOTHING_HINT} Its log says more.",
        )
    if attempt.passed:
        return EdgedError("broker", KEEPS_NOTHING, KEEPS_NOTHING_HINT)
    return EdgedError("forbidden", f"the broker's ACL forbids {where}, for writing or for reading", _acl(where))


def _acl(where: str) -> str:
    return f"Mosquitto's ACL for this user: topic readwrite {where.rpartition('/')[0]}/#"


class _Attempt:
    """One small message after the other: does it stay, does it at least pass, does it end the connection?"""

    def __init__(self, make: Callable[[Callable[[Heard], None]], Retained]) -> None:
        self._broker = make(self._hear)
        self._topic = ""
        self._kept = False
        self.passed = False
        self.lost = False

    def keeps(self, where: str, size: int) -> bool:
        payload = (b"edged " * (size // 6 + 1))[:size]
        self._topic = f"{where}/{hashlib.sha256(payload).hexdigest()}"
        self._kept = self.passed = self.lost = False
        try:
            with self._broker as broker:
                broker.connect()
                broker.listen([self._topic])
                broker.put([Put(self._topic, payload)], lambda *_: None)
                broker.turn()
            with self._broker as broker:
                broker.connect()
                broker.look([self._topic])
                if self._kept:
                    broker.put([Put(self._topic, b"")], lambda *_: None)
        except Lost:
            self.lost = True
        return self._kept

    def _hear(self, heard: Heard) -> None:
        if heard.topic == self._topic and heard.payload:
            self._kept |= heard.retained
            self.passed |= not heard.retained
