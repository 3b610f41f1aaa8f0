"""What goes through paho's stand-in for a socket arrives whole and in order, however it is cut."""

from __future__ import annotations

import contextlib
import socket
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.exception import MalformedPacket

from edged.transports.mqtt.stream import PIECE, Excessive, Stream

Ends = tuple[Stream, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """(paho's end, the broker's)."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    yield Stream(ours), theirs
    ours.close()
    theirs.close()


def everything(sock: socket.socket) -> bytes:
    """What has arrived so far."""
    found = bytearray()
    while True:
        try:
            data = sock.recv(2**20)
        except BlockingIOError:
            return bytes(found)
        if not data:
            return bytes(found)
        found += data


def drained(stream: Stream, broker: socket.socket) -> bytes:
    """What the broker reads until nothing waits any more."""
    got = bytearray()
    while stream.unsent:
        stream.flush()
        got += everything(broker)
    return bytes(got + everything(broker))


@given(st.binary(min_size=1, max_size=2000), st.data())
def test_reading_ahead_keeps_every_byte(sent: bytes, data: st.DataObject) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        stream, got = Stream(ours), bytearray()
        theirs.sendall(sent)
        while len(got) < len(sent):
            size = data.draw(st.integers(1, 400))
            piece = stream.recv(size)
            assert 0 < len(piece) <= size
            got += piece
            assert stream.pending() == len(sent) - len(got)
        assert got == sent


def test_one_read_takes_what_is_there_and_says_so(ends: Ends) -> None:
    stream, broker = ends
    broker.sendall(b"0123456789")
    assert stream.pending() == 0
    assert stream.recv(1) == b"0"
    assert stream.pending() == 9
    assert stream.recv(100) == b"123456789"
    assert stream.pending() == 0
    with pytest.raises(BlockingIOError):
        stream.recv(1)


def test_a_large_rest_is_read_straight(ends: Ends) -> None:
    stream, broker = ends
    broker.sendall(b"x" * 1000)
    assert len(stream.recv(PIECE)) == 1000
    assert stream.pending() == 0


def test_the_end_is_read_after_what_came_before_it(ends: Ends) -> None:
    stream, broker = ends
    broker.sendall(b"ab")
    broker.close()
    assert [stream.recv(1), stream.recv(1), stream.recv(1)] == [b"a", b"b", b""]


def test_before_it_writes_behind_everything_goes_out_at_once(ends: Ends) -> None:
    stream, broker = ends
    assert stream.send(b"CONNECT") == 7
    assert everything(broker) == b"CONNECT"
    assert stream.unsent == 0


def test_small_packets_wait_for_one_flush(ends: Ends) -> None:
    stream, broker = ends
    calls: list[int] = []
    stream.take_over(lambda: calls.append(1))
    for packet in (b"one", b"two", b"three"):
        assert stream.send(packet) == len(packet)
    assert (len(calls), stream.unsent, everything(broker)) == (1, 11, b"")
    stream.flush()
    assert (stream.unsent, everything(broker)) == (0, b"onetwothree")
    stream.send(b"four")
    assert len(calls) == 2


def test_what_a_broker_does_not_read_waits_whole_and_in_order(ends: Ends) -> None:
    stream, broker = ends
    stream.take_over(lambda: None)
    sent = bytearray()
    for number in range(10_000):
        packet = number.to_bytes(4, "big") * 100
        assert stream.send(packet) == len(packet)
        sent += packet
    stream.flush()
    assert 0 < stream.unsent < len(sent)
    assert drained(stream, broker) == sent


@pytest.mark.parametrize("before", [b"small", b""])
def test_a_large_packet_follows_what_waits(ends: Ends, before: bytes) -> None:
    stream, broker = ends
    stream.take_over(lambda: None)
    large = bytes(range(256)) * (PIECE // 64)
    if before:
        stream.send(before)
    assert stream.send(large) == len(large)
    assert stream.send(b"after") == 5
    assert drained(stream, broker) == before + large + b"after"


def test_what_waits_goes_out_before_the_end(ends: Ends) -> None:
    stream, broker = ends
    stream.take_over(lambda: None)
    stream.send(b"DISCONNECT")
    stream.close()
    assert everything(broker) == b"DISCONNECT"


def test_a_broken_connection_is_an_oserror_at_the_flush_and_none_at_the_end(ends: Ends) -> None:
    stream, broker = ends
    stream.take_over(lambda: None)
    broker.close()
    stream.send(b"x")
    with pytest.raises(OSError, match=r"[Bb]roken pipe|reset"):
        stream.flush()
    stream.close()


# --- packet by packet -----------------------------------------------------------------------------


def packed(head: int, body: bytes) -> bytes:
    """A packet as MQTT writes it."""
    size, found = len(body), bytearray([head])
    while size > 127:
        found.append(size & 127 | 128)
        size >>= 7
    return bytes([*found, size]) + body


BODIES = st.one_of(
    st.binary(max_size=300), st.sampled_from([PIECE, PIECE + 1, 3 * PIECE]).map(lambda size: b"L" * size)
)
OURS = st.tuples(st.sampled_from([0x30, 0x31, 0x32, 0x34, 0x3A, 0x40, 0x62]), BODIES)
PAHOS = st.tuples(st.sampled_from([0x20, 0x50, 0x90, 0xD0]), BODIES)


@given(st.lists(st.one_of(OURS, PAHOS), min_size=1, max_size=6), st.data())
@settings(max_examples=30)
def test_every_packet_is_read_by_whom_it_is_for_however_it_comes(
    packets: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        stream = Stream(ours)
        stream.take_over(lambda: None)
        rest = b"".join(packed(*one) for one in packets)
        for head, body in packets:
            lent = bytearray()
            while True:
                if (packet := stream.packet()) is not None:
                    assert packet == (head, body)
                    assert head & 0xF0 in (0x30, 0x40, 0x60)
                    break
                if stream.lent:
                    with contextlib.suppress(BlockingIOError):
                        lent += stream.recv(data.draw(st.integers(1, 2 * PIECE)))
                    if not stream.lent:
                        assert lent == packed(head, body)
                        assert head in (0x20, 0x50, 0x90, 0xD0)
                        break
                elif data.draw(st.booleans()):
                    stream.insert(b"\xd0\0")
                    assert (stream.recv(9), stream.lent) == (b"\xd0\0", 0)
                if rest:
                    with contextlib.suppress(BlockingIOError):
                        rest = rest[theirs.send(rest[: data.draw(st.sampled_from([1, 2, 3, 99, 10**6]))]) :]
                if not stream.lent:
                    stream.fill()
        assert (stream.packet(), stream.lent, stream.pending()) == (None, 0, 0)


def test_the_end_is_pahos_to_find_out(ends: Ends) -> None:
    stream, broker = ends
    stream.take_over(lambda: None)
    broker.sendall(packed(0x30, b"\0\1t") + b"\x30")
    broker.close()
    stream.fill()
    assert stream.packet() == (0x30, b"\0\1t")
    assert (stream.packet(), stream.lent) == (None, 0)
    stream.fill()
    assert stream.lent
    stream.recv(1)
    assert stream.recv(1) == b""


def test_a_length_of_five_bytes_is_none(ends: Ends) -> None:
    stream, broker = ends
    stream.take_over(lambda: None)
    broker.sendall(b"\x30\xff\xff\xff\xff\x01")
    stream.fill()
    with pytest.raises(MalformedPacket):
        stream.packet()


def test_a_packet_takes_memory_as_it_comes_and_not_as_it_says(ends: Ends) -> None:
    stream, broker = ends
    stream.take_over(lambda: None)
    broker.sendall(b"\x30\xff\xff\xff\x7f" + bytes(10))
    tracemalloc.start()
    try:
        for _ in range(3):
            stream.fill()
            assert stream.packet() is None
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("head", "told"), [(0x30, True), (0x90, True), (0x90, False)])
def test_a_packet_above_the_most_is_not_begun(ends: Ends, head: int, told: bool) -> None:
    stream, broker = ends
    stream.take_over(lambda: None, 100_000, told=told)
    broker.sendall(packed(head, bytes(100_001))[:10])
    stream.fill()
    with pytest.raises(Excessive, match="100001 bytes; 100000"):
        stream.packet()


def test_a_message_that_a_broker_may_send_all_the_same_is_read_and_not_kept(ends: Ends) -> None:
    """MQTT 3.1.1 has no word for our limit. Its sender is to hear that it is too large, and it must not come again."""
    stream, broker = ends
    stream.take_over(lambda: None, 100_000, told=False)
    size = 2_000_000
    sent = memoryview(packed(0x32, b"\0\1t\0\1" + bytes(size)) + packed(0x30, b"\0\1t"))
    tracemalloc.start()
    try:
        found: list[tuple[int, int, int]] = []
        while len(found) < 2:
            with contextlib.suppress(BlockingIOError):
                sent = sent[broker.send(sent[:200_000]) :]
            stream.fill()
            while (packet := stream.packet()) is not None:
                found.append((packet[0], len(packet[1]), stream.left_out))
                stream.left_out = 0
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
    assert found == [(0x32, PIECE, size + 5 - PIECE), (0x30, 3, 0)]
