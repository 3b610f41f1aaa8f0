"""What a message is on the disk: records in a segment, each with its length and checksum. No I/O.

    segment := head record*      head and record: length u32, CRC-32 u32, both little-endian, then a MessagePack array

A record with other bytes than those that were written is damaged, and those behind it are found by its length. Where
that leads to none that is whole the segment ends: at the end of the newest one that is what a crash leaves of a write
that nobody was told is safe.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from edged.transports.mqtt.outbox import MAX_PACKET, Publication

_FRAME: Final = struct.Struct("<II")
_LARGEST: Final = MAX_PACKET + 1024  # bytes of a record; a length above it is no length
_VERSION: Final = 1


class Moment(msgspec.Struct, frozen=True):
    """Now, by clocks that outlive the daemon.

    `boot` names this start of the box, `up_s` are seconds since then, asleep ones too (CLOCK_BOOTTIME); `wall_ms` is 0
    while nobody has set the wall clock.
    """

    boot: str
    up_s: float
    wall_ms: int

    def age_s(self, now: Moment) -> float | None:
        """How long ago this was; None when no clock can tell: another boot, and the wall clock was not set at both."""
        if self.boot == now.boot:
            return max(0.0, now.up_s - self.up_s)
        if not (self.wall_ms and now.wall_ms):
            return None
        return max(0.0, (now.wall_ms - self.wall_ms) / 1000)


class Head(msgspec.Struct, frozen=True, array_like=True):
    """The first record of a segment: during which boot its records were written."""

    version: int
    boot: str


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One message, and when it was filed. `left_s`: so long it may still be under way, None = for ever."""

    topic: str
    payload: bytes
    retain: bool
    content_type: str
    correlation: bytes | None
    status: str
    up_s: float
    wall_ms: int
    left_s: float | None

    def filed(self, boot: str) -> Moment:
        """When it was filed, in a segment of that boot."""
        return Moment(boot, self.up_s, self.wall_ms)

    def publication(self, serial: int, expires_s: float | None) -> Publication:
        """The message again, known by its `serial` from now on; `expires_s` as it has it (outbox.Publication)."""
        return Publication(
            self.topic,
            self.payload,
            1,
            self.retain,
            self.content_type,
            self.correlation,
            self.status,
            expires_s=expires_s,
            serial=serial,
        )


_record: Final = msgspec.msgpack.Decoder(Record)
_head: Final = msgspec.msgpack.Decoder(Head)
_encode: Final = msgspec.msgpack.Encoder().encode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)  # msgspec raises the latter for text that is no UTF-8


def head(boot: str) -> bytes:
    """What a segment begins with."""
    return _framed(_encode(Head(_VERSION, boot)))


def record(message: Publication, now: Moment) -> bytes:
    """A message as it goes into a segment."""
    return _framed(
        _encode(
            Record(
                message.topic,
                message.payload,
                message.retain,
                message.content_type,
                message.correlation,
                message.status,
                now.up_s,
                now.wall_ms,
                None if message.expires_s is None else message.expires_s - now.up_s,
            )
        )
    )


def _framed(body: bytes) -> bytes:
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


class Damaged(Exception):
    """A file is no segment, or one of another version."""


def boot_of(read: Callable[[int], bytes]) -> str:
    """Reads a segment's head; "", the boot of no record, when it is damaged. Raises Damaged when it is none."""
    body = next(_bodies(read), b"")
    if body is None:
        return ""
    try:
        found = _head.decode(body)
    except _UNREADABLE as error:
        raise Damaged(str(error)) from error
    if found.version != _VERSION:
        raise Damaged(f"version {found.version}")
    return found.boot


def records_of(read: Callable[[int], bytes]) -> Iterator[Record | None]:
    """The records behind a segment's head, None for each that is damaged. Those at the end may be no records at all."""
    for body in _bodies(read):
        try:
            yield None if body is None else _record.decode(body)
        except _UNREADABLE:
            yield None


def skip(read: Callable[[int], bytes], count: int) -> int:
    """Passes over records without looking into them; returns how many of `count` there were."""
    return sum(1 for _ in zip(range(count), _bodies(read), strict=False))


def _bodies(read: Callable[[int], bytes]) -> Iterator[bytes | None]:
    """`read(n)` gives n bytes, and fewer only where there are no more. None: not the bytes that were written."""
    while len(start := read(_FRAME.size)) == _FRAME.size:
        length, checksum = _FRAME.unpack(start)
        if not 0 < length <= _LARGEST:  # zeros are what a power cut leaves of a write
            return
        body = read(length)
        if len(body) < length:
            return
        yield body if zlib.crc32(body) == checksum else None
