"""Properties of a PUBLISH as any sender may write them."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import MQTTException
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers

from edged.transports.mqtt.properties import MOST_BYTES, read

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)


def unpacked(region: bytes, behind: bytes = b"") -> tuple[Any, int]:
    make: Any = Properties
    integers: Any = VariableByteIntegers
    done: tuple[Any, int] = make(PacketTypes.PUBLISH).unpack(integers.encode(len(region)) + region + behind)
    return done


@given(
    TEXT, st.text(st.sampled_from("ab/\ufeff"), min_size=1, max_size=8), st.binary(max_size=9), st.tuples(TEXT, TEXT)
)
def test_what_paho_writes_is_read_again(kind: str, answer: str, mark: bytes, pair: tuple[str, str]) -> None:
    make: Any = Properties
    sent = make(PacketTypes.PUBLISH)
    sent.ContentType, sent.ResponseTopic, sent.CorrelationData, sent.UserProperty = kind, answer, mark, [pair]
    sent.MessageExpiryInterval, sent.PayloadFormatIndicator, sent.SubscriptionIdentifier = 7, 1, [300]
    packed = sent.pack()
    found, size = make(PacketTypes.PUBLISH).unpack(packed + b"payload")
    assert size == len(packed)
    assert (found.ContentType, found.ResponseTopic, found.CorrelationData) == (kind, answer, mark)
    assert (found.UserProperty, found.SubscriptionIdentifier) == ([pair], [300])


@given(st.binary(max_size=64))
def test_no_bytes_raise_anything_else(region: bytes) -> None:
    with contextlib.suppress(MalformedPacket):
        read(region)


@pytest.mark.parametrize("count", [2000, 30_000, 300_000])
def test_many_of_them_before_a_large_payload_take_no_time(count: int) -> None:
    region = b"\x26\x00\x01a\x00\x00" * count
    began_s = time.process_time()
    found, _ = unpacked(region, bytes(4 * 2**20))
    assert time.process_time() - began_s < 0.5  # paho's own: 4.6 s for 2000
    kept = getattr(found, "UserProperty", [])
    assert kept == ([("a", "")] * 64 if len(region) <= MOST_BYTES else [])


def test_properties_share_their_tables_and_nothing_else() -> None:
    make: Any = Properties
    one, other = make(PacketTypes.PUBLISH), make(PacketTypes.CONNECT)
    one.ContentType, other.ReceiveMaximum = "text/plain", 7
    assert one.names is other.names
    assert not hasattr(other, "ContentType")
    with pytest.raises(MQTTException):
        other.ContentType = "text/plain"  # each still knows which packet it is for
    assert one.unpack(b"\0")[0].isEmpty()  # what it had before is gone
