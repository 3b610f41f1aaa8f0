"""The packets that messages cost, as bytes: PUBLISH, PUBACK, those of QoS 2. All others are paho's. No I/O (ADR 3)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from paho.mqtt.exception import MalformedPacket

from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.properties import MOST_BYTES, read
from edged.transports.mqtt.versions import Version

PUBLISH: Final = 0x30
PUBACK: Final = 0x40
PUBREL: Final = 0x62
_KIND: Final = 0xF0
_QOS: Final = 0x06
_MOST_LENGTH: Final = 4  # bytes of a packet's length
# MQTT 5, 3.4.2.1: what a broker may answer a PUBLISH with.
_REFUSALS: Final = {
    0x80: "unspecified error",
    0x83: "implementation specific error",
    0x87: "not authorized",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    0x97: "quota exceeded",
    0x99: "payload format invalid",
}
_REFUSED: Final = 0x80

Bytes = bytes | bytearray


def ours(head: int) -> bool:
    """Whether a packet with this first byte is read here."""
    return head & _KIND == PUBLISH or head in (PUBACK, PUBREL)


def is_sent(head: int) -> bool:
    """The same without the broker's word on what we have sent."""
    return head & _KIND == PUBLISH or head == PUBREL


def is_publish(head: int) -> bool:
    return head & _KIND == PUBLISH


def length(data: Bytes, at: int) -> tuple[int, int]:
    """(bytes of the packet behind its length, where they begin) for a length that begins at `at`.

    (-1, at) when it is not here whole. Raises MalformedPacket for one of more than four bytes.
    """
    size, shift = 0, 0
    for place in range(at, min(at + _MOST_LENGTH, len(data))):
        byte = data[place]
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return size, place + 1
        shift += 7
    if len(data) - at >= _MOST_LENGTH:
        raise MalformedPacket("a length of more than four bytes")
    return -1, at


def arrival(number: int, version: Version, head: int, body: Bytes) -> Arrival:
    """A PUBLISH: its first byte, and what is behind its length. Raises MalformedPacket.

    The topic is "" when it is not UTF-8.
    """
    start = 2 + int.from_bytes(body[:2], "big")
    try:
        topic = body[2:start].decode()
    except UnicodeDecodeError:
        topic = ""
    qos, mid = (head & _QOS) >> 1, 0
    if qos > 2:
        raise MalformedPacket("a PUBLISH at QoS 3")
    at = start
    if qos:
        at += 2
        mid = int.from_bytes(body[start:at], "big")
    if at > len(body):
        raise MalformedPacket("a PUBLISH without its topic or packet identifier")
    retain, again = head & 1 == 1, head & 8 == 8
    if version != "5":
        return Arrival(topic, _rest(body, at), qos, retain, mid, number, again=again)
    if body[at : at + 1] == b"\0":  # no properties, as nearly always
        return Arrival(topic, _rest(body, at + 1), qos, retain, mid, number, again=again)
    size, at = length(body, at)
    if size < 0 or at + size > len(body):
        raise MalformedPacket("properties longer than their packet")
    payload = _rest(body, at + size)
    if not 0 < size <= MOST_BYTES:
        return Arrival(topic, payload, qos, retain, mid, number, again=again)
    found = read(bytes(body[at : at + size]))
    return Arrival(topic, payload, qos, retain, mid, number, again=again, **_members(found))


def _rest(body: Bytes, at: int) -> bytes:
    """What is behind `at`, copied once: 100 MiB take 0.3 s, in which nobody else has the interpreter."""
    if isinstance(body, bytearray):
        with memoryview(body) as view:
            return bytes(view[at:])
    return body[at:]


def _members(found: dict[str, Any]) -> dict[str, Any]:
    """A PUBLISH's properties, as an Arrival has them."""
    return {
        "content_type": found.get("ContentType", ""),
        "response_topic": found.get("ResponseTopic", ""),
        "correlation": found.get("CorrelationData"),
        "identifiers": tuple(found.get("SubscriptionIdentifier", ())),
        "version": next((value for name, value in found.get("UserProperty", ()) if name == "version"), None),
    }


def confirmation(version: Version, body: Bytes) -> tuple[int, str]:
    """(packet identifier, why the broker does not have the message, "" when it does) of a PUBACK.

    Raises MalformedPacket.
    """
    if len(body) < 2:
        raise MalformedPacket("a PUBACK without a packet identifier")
    reason = body[2] if version == "5" and len(body) > 2 else 0
    return int.from_bytes(body[:2], "big"), "" if reason < _REFUSED else _REFUSALS.get(reason, f"reason {reason:#x}")


def acknowledgement(mid: int) -> bytes:
    return b"\x40\x02" + mid.to_bytes(2, "big")


def received(mid: int) -> bytes:
    """The first word on a message at QoS 2: PUBREC."""
    return b"\x50\x02" + mid.to_bytes(2, "big")


def completed(mid: int) -> bytes:
    """The last word on it: PUBCOMP."""
    return b"\x70\x02" + mid.to_bytes(2, "big")


def released(body: Bytes) -> int:
    """The packet identifier of a PUBREL. Raises MalformedPacket."""
    if len(body) < 2:
        raise MalformedPacket("a PUBREL without a packet identifier")
    return int.from_bytes(body[:2], "big")


def publication(message: Publication, mid: int, version: Version, now_s: float) -> bytes:
    """The PUBLISH of a message; `mid` counts at QoS 1 alone, `now_s` is of the clock that messages expire by.

    Raises OverflowError, UnicodeError.

    The expiry interval is in whole seconds, never longer than what is left.
    """
    head = PUBLISH | message.qos << 1 | message.retain
    parts = [_text(message.topic)]
    if message.qos:
        parts.append(mid.to_bytes(2, "big"))
    if version == "5":
        # Not 0 in the last second: Mosquitto takes that for "never".
        expiry_s = 0 if message.expires_s is None else max(1, int(message.expires_s - now_s))
        parts.append(_properties(message, expiry_s))
    parts.append(message.payload)
    return b"".join((head.to_bytes(1, "big"), _length(sum(map(len, parts))), *parts))


def _properties(message: Publication, expiry_s: int) -> bytes:
    """MQTT 5, 3.3.2.3, with their length."""
    if message.correlation is None and not message.status:
        return _plain(message.content_type, expiry_s)
    more = b"\x26" + _text("status") + _text(message.status)
    if message.correlation is not None:
        more += b"\x09" + _data(message.correlation)
    found = _fixed(message.content_type, expiry_s) + more
    return _length(len(found)) + found


@lru_cache(maxsize=64)  # those of a model's results are always the same
def _plain(content_type: str, expiry_s: int) -> bytes:
    found = _fixed(content_type, expiry_s)
    return _length(len(found)) + found


def _fixed(content_type: str, expiry_s: int) -> bytes:
    expiry = b"\x02" + expiry_s.to_bytes(4, "big") if expiry_s else b""
    return expiry + (b"\x03" + _text(content_type) if content_type else b"")


def _text(text: str) -> bytes:
    return _data(text.encode())


def _data(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _length(size: int) -> bytes:
    found = bytearray()
    while size > 0x7F:
        found.append(size & 0x7F | 0x80)
        size >>= 7
    found.append(size)
    return bytes(found)
