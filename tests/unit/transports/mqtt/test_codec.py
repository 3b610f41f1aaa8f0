"""PUBLISH and PUBACK: what paho writes is read, what is written paho reads, and no bytes raise anything unexpected."""

from __future__ import annotations

import contextlib
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import _packet as packet
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edged.transports.mqtt import codec
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.versions import Version

PROTOCOL = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
VERSIONS = st.sampled_from(get_args(Version))
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
TOPIC = TEXT.filter(bool)


def split(data: bytes) -> tuple[int, bytes]:
    """(first byte, what is behind the length), which has to be the rest."""
    size, start = codec.length(data, 1)
    assert size == len(data) - start
    return data[0], data[start:]


@given(
    VERSIONS,
    st.builds(
        Publication,
        TOPIC,
        st.binary(max_size=300),
        st.sampled_from([0, 1]),
        retain=st.booleans(),
        content_type=TEXT,
        correlation=st.none() | st.binary(max_size=9),
        status=TEXT,
        expires_s=st.none() | st.floats(0, 10**6),
    ),
)
def test_paho_reads_what_is_written(version: Version, message: Publication) -> None:
    head, body = split(codec.publication(message, 700, version, 10.0))
    assert head & 0xF0 == codec.PUBLISH
    found: Any = packet.decode_publish(head, body, PROTOCOL[version])
    assert (found.topic.decode(), found.payload) == (message.topic, message.payload)
    assert (found.qos, found.retain, found.dup) == (message.qos, message.retain, False)
    assert found.mid == (700 if message.qos else 0)
    if version == "5":
        said = found.properties
        assert getattr(said, "ContentType", "") == message.content_type
        assert getattr(said, "CorrelationData", None) == message.correlation
        expiry_s = getattr(said, "MessageExpiryInterval", None)
        assert expiry_s == (None if message.expires_s is None else max(1, int(message.expires_s - 10)))
        if message.status:
            assert said.UserProperty == [("status", message.status)]


@given(VERSIONS, TOPIC, st.binary(max_size=300), st.sampled_from([0, 1]), st.booleans(), st.booleans(), TEXT, TEXT)
def test_what_a_sender_writes_is_read(
    version: Version, topic: str, payload: bytes, qos: int, retain: bool, again: bool, kind: str, answer: str
) -> None:
    make: Any = Properties
    region = b""
    if version == "5":
        sent = make(PacketTypes.PUBLISH)
        sent.ContentType, sent.ResponseTopic, sent.CorrelationData = kind, answer, b"mark"
        sent.SubscriptionIdentifier = [300]
        region = sent.pack()
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + (b"\x02\xbc" if qos else b"") + region + payload
    found = codec.arrival(3, version, 0x30 | again << 3 | qos << 1 | retain, body)
    assert (found.topic, found.payload, found.qos, found.retain, found.again) == (topic, payload, qos, retain, again)
    assert (found.number, found.mid) == (3, 700 if qos else 0)
    if version == "5":
        assert (found.content_type, found.response_topic) == (kind, answer)
        assert (found.correlation, found.identifiers) == (b"mark", (300,))


@given(VERSIONS, st.sampled_from([0x30, 0x3B, 0x32]), st.binary(max_size=60))
def test_no_bytes_raise_anything_else(version: Version, head: int, body: bytes) -> None:
    with contextlib.suppress(MalformedPacket):
        found = codec.arrival(1, version, head, body)
        assert len(found.payload) < len(body)
    with contextlib.suppress(MalformedPacket):
        codec.confirmation(version, body)
    with contextlib.suppress(MalformedPacket):
        codec.length(body, 0)


def test_a_topic_that_is_no_text_is_empty() -> None:
    found = codec.arrival(1, "3.1.1", 0x32, b"\0\2\xff\xfe\0\x09rest")
    assert (found.topic, found.mid, found.payload) == ("", 9, b"rest")


@pytest.mark.parametrize(
    ("version", "body", "expected"),
    [
        ("3.1.1", b"\x80\0", (32768, "")),
        ("5", b"\x80\0", (32768, "")),
        ("5", b"\x80\0\x10\0", (32768, "")),  # no matching subscribers
        ("5", b"\x80\0\x87", (32768, "not authorized")),
        ("5", b"\x80\0\xee\0", (32768, "reason 0xee")),
    ],
)
def test_what_a_broker_says_to_a_message(
    version: Literal["5", "3.1.1"], body: bytes, expected: tuple[int, str]
) -> None:
    assert codec.confirmation(version, body) == expected


def test_an_acknowledgement() -> None:
    assert split(codec.acknowledgement(0x1234)) == (codec.PUBACK, b"\x12\x34")
