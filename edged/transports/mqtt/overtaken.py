"""Which messages on the disk a newer one of their topic has gone past: the broker is not to retain them. No I/O.

It is written down, or a daemon that is started again in the middle would put an old result in the place of a newer one.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Final

import msgspec

_TOPICS: Final = 4096
_CHECKSUM: Final = 4  # bytes


class _Written(msgspec.Struct, array_like=True):
    every: int
    topics: dict[bytes, int]


def _key(topic: str) -> bytes:
    """In the place of a topic, which may have 64 KiB."""
    return hashlib.blake2b(topic.encode(), digest_size=8).digest()


class Overtaken:
    """By serial numbers. `changed`: since it was `written` last."""

    def __init__(self) -> None:
        self._below: dict[bytes, int] = {}
        self._every = 0
        self.changed = False

    def add(self, topic: str, following: int) -> None:
        """A retained message goes past those of its topic with serial numbers below `following`."""
        key = _key(topic)
        if self._below.get(key) == following:
            return
        if len(self._below) >= _TOPICS and key not in self._below:
            self._below.clear()
            self._every = following
        self._below[key] = following
        self.changed = True

    def slip(self, following: int, count: int) -> None:
        """So many messages that were to have numbers from `following` on are given up: others get theirs."""
        self._every -= count if self._every > following else 0
        self._below = {key: below - count if below > following else below for key, below in self._below.items()}
        self.changed = True

    def clear(self) -> None:
        """Nothing waits any more that could have been overtaken."""
        if self._below or self._every:
            self._below.clear()
            self._every, self.changed = 0, True

    def has(self, topic: str, serial: int) -> bool:
        return serial < self._every or (bool(self._below) and serial < self._below.get(_key(topic), 0))

    def written(self) -> bytes:
        """As it goes to the disk; b"" for nothing."""
        self.changed = False
        if not self._below and not self._every:
            return b""
        content = msgspec.msgpack.encode(_Written(self._every, self._below))
        return zlib.crc32(content).to_bytes(_CHECKSUM, "little") + content

    def read(self, content: bytes, following: int) -> None:
        """What an earlier daemon has written; torn bytes are nothing. `following` is the next serial number now: no
        message that gets it was overtaken.
        """
        body = content[_CHECKSUM:]
        if not body or int.from_bytes(content[:_CHECKSUM], "little") != zlib.crc32(body):
            return
        try:
            found = msgspec.msgpack.decode(body, type=_Written)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self._every = max(self._every, min(found.every, following))
        for key, below in list(found.topics.items())[:_TOPICS]:
            self._below[key] = max(self._below.get(key, 0), min(below, following))
