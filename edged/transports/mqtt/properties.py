"""MQTT 5's properties where paho's own are too dear: read from a PUBLISH, made, and written again and again.

Any sender may write 16 MiB of them. paho copies the rest of the packet for each: 2000 user properties before a
payload of 4 MiB kept the loop for 4.6 s (measured). It also takes U+FEFF for a broken packet, where MQTT 5
(1.5.4-3) has a character like any other: one QoS 1 message with it ended every connection of the session. And each
Properties makes its own tables of all there are, 11 us a message, where those of the first would do. Importing
this replaces `Properties.unpack` for PUBLISH, and `Properties.__init__`.
"""

from __future__ import annotations

from typing import Any, Final

from paho.mqtt import properties as paho
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes

MOST_BYTES: Final = 192 * 1024  # above what a response topic and correlation data can take, and nobody's use
_USER_PROPERTIES: Final = 64
# MQTT 5, 3.3.2.3: what a PUBLISH may carry. Integers but the expiry interval are passed over.
_INTEGERS: Final = {0x01: 1, 0x02: 4, 0x23: 2}
_EXPIRY: Final = 0x02
_TEXTS: Final = {0x03: "ContentType", 0x08: "ResponseTopic"}
_CORRELATION: Final = 0x09
_SUBSCRIPTION: Final = 0x0B
_USER: Final = 0x26

_paho: Final[Any] = paho  # without type hints
_unpack_any: Final[Any] = _paho.Properties.unpack
_TABLES: Final[dict[str, Any]] = vars(_paho.Properties(PacketTypes.PUBLISH))  # nobody changes what is in them


def _init(self: Any, packetType: int) -> None:  # noqa: N803  paho's name
    vars(self).update(_TABLES, packetType=packetType)


def _unpack(self: Any, buffer: bytes | bytearray) -> tuple[Any, int]:
    """Sets what edged reads; returns (self, bytes of the properties with their length)."""
    if self.packetType != PacketTypes.PUBLISH:
        found: tuple[Any, int] = _unpack_any(self, buffer)
        return found
    size, start = _paho.VariableByteIntegers.decode(buffer[:4])
    if len(vars(self)) > len(_TABLES):
        self.clear()
    if start + size > len(buffer):
        raise MalformedPacket("properties longer than their packet")
    if size <= MOST_BYTES:
        for name, value in read(bytes(buffer[start : start + size])).items():
            setattr(self, name, value)
    return self, start + size


def read(region: bytes) -> dict[str, Any]:
    """The properties by paho's names; of several user properties the first 64. Raises MalformedPacket."""
    found: dict[str, Any] = {}
    at = 0
    while at < len(region):
        kind = region[at]
        at += 1
        if kind in _INTEGERS:
            if kind == _EXPIRY:
                found["MessageExpiryInterval"] = int.from_bytes(region[at : at + 4], "big")
            at += _INTEGERS[kind]
        elif kind == _SUBSCRIPTION:
            number, length = _paho.VariableByteIntegers.decode(region[at : at + 4])
            found.setdefault("SubscriptionIdentifier", []).append(number)
            at += length
        elif kind in _TEXTS:
            data, at = _data(region, at)
            found[_TEXTS[kind]] = _text(data)
        elif kind == _CORRELATION:
            found["CorrelationData"], at = _data(region, at)
        elif kind == _USER:
            name, at = _data(region, at)
            value, at = _data(region, at)
            if len(pairs := found.setdefault("UserProperty", [])) < _USER_PROPERTIES:
                pairs.append((_text(name), _text(value)))
        else:
            raise MalformedPacket(f"property {kind} in a PUBLISH")
    if at > len(region):
        raise MalformedPacket("a property longer than all of them")
    return found


def _data(region: bytes, at: int) -> tuple[bytes, int]:
    """The bytes behind a length of two bytes, and where they end."""
    begin = at + 2
    end = begin + int.from_bytes(region[at:begin], "big")
    if end > len(region):
        raise MalformedPacket("a property longer than all of them")
    return region[begin:end], end


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket("a property that is not UTF-8") from error


_paho.Properties.__init__ = _init
_paho.Properties.unpack = _unpack
