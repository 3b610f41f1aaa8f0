"""Reads the properties of an incoming PUBLISH in paho's place: any sender may write 16 MiB of them.

paho copies the rest of the packet for each property: 2000 user properties before a payload of 4 MiB kept
the loop for 4.6 s (measured). It also takes U+FEFF for a broken packet, where MQTT 5 (1.5.4-3) has a character
like any other: one QoS 1 message with it ended every connection of the session. Importing this replaces
`Properties.unpack` for PUBLISH.
"""

from __future__ import annotations

from typing import Any, Final

from paho.mqtt import properties as paho
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes

MOST_BYTES: Final = 192 * 1024  # above what a response topic and correlation data can take, and nobody's use
_USER_PROPERTIES: Final = 64
# MQTT 5, 3.3.2.3: what a PUBLISH may carry. Integers are passed over.
_INTEGERS: Final = {0x01: 1, 0x02: 4, 0x23: 2}
_TEXTS: Final = {0x03: "ContentType", 0x08: "ResponseTopic"}
_CORRELATION: Final = 0x09
_SUBSCRIPTION: Final = 0x0B
_USER: Final = 0x26

_paho: Final[Any] = paho  # without type hints
_unpack_any: Final[Any] = _paho.Properties.unpack


def _unpack(self: Any, buffer: bytes | bytearray) -> tuple[Any, int]:
    """Sets what edged reads; returns (self, bytes of the properties with their length)."""
    if self.packetType != PacketTypes.PUBLISH:
        found: tuple[Any, int] = _unpack_any(self, buffer)
        return found
    size, start = _paho.VariableByteIntegers.decode(buffer[:4])
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


_paho.Properties.unpack = _unpack
