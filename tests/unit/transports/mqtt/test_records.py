"""Messages on the disk: what was written is read, what is torn or damaged ends its segment and nothing else."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.records import Damaged, Moment, Record, boot_of, head, record, records_of, skip

NOW = Moment("boot-1", 100.0, 1_700_000_000_000)

publications = st.builds(
    Publication,
    topic=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    payload=st.binary(max_size=200),
    qos=st.just(1),
    retain=st.booleans(),
    content_type=st.sampled_from(["", "application/json"]),
    correlation=st.none() | st.binary(max_size=20),
    status=st.sampled_from(["", "ok", "error"]),
    expires_s=st.none() | st.floats(0, 1000),
)


def segment(messages: Iterable[Publication]) -> bytes:
    return head("boot-1") + b"".join(record(one, NOW) for one in messages)


def read(content: bytes) -> list[Record | None]:
    file = io.BytesIO(content)
    assert boot_of(file.read) == "boot-1"
    return list(records_of(file.read))


def test_a_message_is_what_it_was() -> None:
    message = Publication("a/b", b"1", 1, True, "application/json", b"\0c", "ok", None, expires_s=103.0)
    (found,) = read(segment([message]))
    assert found is not None
    assert found.left_s == 3.0
    again = found.publication(7, expires_s=50.0)
    assert (again.topic, again.payload, again.qos, again.retain) == ("a/b", b"1", 1, True)
    assert (again.content_type, again.correlation, again.status) == ("application/json", b"\0c", "ok")
    assert (again.serial, again.expires_s, again.handed) == (7, 50.0, None)


@given(st.lists(publications, max_size=6), st.data())
def test_a_torn_end_costs_what_was_torn(messages: list[Publication], data: st.DataObject) -> None:
    whole = segment(messages)
    kept = data.draw(st.integers(len(head("boot-1")), len(whole)))
    found = read(whole[:kept])
    ends = [len(segment(messages[:count])) for count in range(len(messages) + 1)]
    assert len(found) == sum(end <= kept for end in ends) - 1
    assert [one and one.payload for one in found] == [one.payload for one in messages[: len(found)]]


@given(st.lists(publications, min_size=1, max_size=6), st.data())
def test_a_flipped_bit_is_seen_and_costs_one_message(messages: list[Publication], data: st.DataObject) -> None:
    """Or, in its length, those behind it."""
    content = bytearray(segment(messages))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    starts = [len(segment(messages[:count])) for count in range(len(messages) + 1)]
    file = io.BytesIO(bytes(content))
    try:
        boot = boot_of(file.read)
    except Damaged:
        assert at < 4  # the length of the head
        return
    found = [one and one.payload for one in records_of(file.read)]
    expected = [one.payload for one in messages]
    if at < starts[0]:
        assert boot == ""
        assert at < 4 or found == expected
        return
    hit = next(number for number, end in enumerate(starts[1:]) if at < end)
    assert found[:hit] == expected[:hit]
    assert found[hit : hit + 1] in ([None], [])
    if at - starts[hit] >= 4:
        assert found[hit + 1 :] == expected[hit + 1 :]
    assert not set(found[hit + 1 :]) - {None, *expected[hit + 1 :]}


def test_text_that_is_no_utf_8_is_damage_like_any_other() -> None:
    """Its checksum is right: a program of ours wrote it, or somebody who means harm."""
    body = msgspec.msgpack.encode([b"t", b"", False, "", None, "", 0.0, 0, None]).replace(b"\xc4\x01t", b"\xa1\xff")
    framed = len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body
    good = segment([Publication("t", b"1", 1)])
    found = read(good + framed + good[len(head("boot-1")) :])
    assert [one and one.payload for one in found] == [b"1", None, b"1"]
    body = b"\x92\x01\xa1\xff"
    framed = len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body
    with pytest.raises(Damaged):
        boot_of(io.BytesIO(framed).read)


def test_zeros_are_no_records() -> None:
    """What a power cut leaves of a write on some file systems."""
    assert read(head("boot-1") + bytes(4096)) == []


@given(st.binary(max_size=100))
def test_garbage_is_no_segment(content: bytes) -> None:
    file = io.BytesIO(content)
    try:
        assert boot_of(file.read) == ""
        assert not any(records_of(file.read))
    except Damaged:
        pass


def test_records_can_be_passed_over() -> None:
    file = io.BytesIO(segment([Publication("t", str(number).encode(), 1) for number in range(5)]))
    boot_of(file.read)
    assert skip(file.read, 3) == 3
    assert [one and one.payload for one in records_of(file.read)] == [b"3", b"4"]
    assert skip(file.read, 3) == 0


def test_time_is_told_within_a_boot_by_its_clock_and_beyond_it_by_a_clock_that_was_set() -> None:
    filed = Moment("boot-1", 100.0, 0)
    assert filed.age_s(Moment("boot-1", 160.0, 0)) == 60.0
    assert filed.age_s(Moment("boot-2", 160.0, 5000)) is None  # it was not set then
    filed = Moment("boot-1", 100.0, 5000)
    assert filed.age_s(Moment("boot-2", 1.0, 65_000)) == 60.0
    assert filed.age_s(Moment("boot-2", 1.0, 0)) is None
    assert filed.age_s(Moment("boot-2", 1.0, 4000)) == 0.0
