"""What goes through paho's stand-in for a socket arrives whole and in order, however it is cut."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.transports.mqtt.stream import PIECE, Stream

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
    stream.write_behind(lambda: calls.append(1))
    for packet in (b"one", b"two", b"three"):
        assert stream.send(packet) == len(packet)
    assert (len(calls), stream.unsent, everything(broker)) == (1, 11, b"")
    stream.flush()
    assert (stream.unsent, everything(broker)) == (0, b"onetwothree")
    stream.send(b"four")
    assert len(calls) == 2


def test_a_broker_that_does_not_read_fills_one_piece_and_no_more(ends: Ends) -> None:
    stream, broker = ends
    stream.write_behind(lambda: None)
    sent = bytearray()
    for number in range(100_000):
        packet = number.to_bytes(4, "big") * 100
        try:
            taken = stream.send(packet)
        except BlockingIOError:
            break
        assert taken == len(packet)
        sent += packet
    else:
        raise AssertionError("it took everything")
    assert 0 < stream.unsent <= PIECE
    got = bytearray()
    while stream.unsent:
        got += everything(broker)
        stream.flush()
    got += everything(broker)
    assert got == sent


def test_a_large_packet_follows_what_waits(ends: Ends) -> None:
    stream, broker = ends
    stream.write_behind(lambda: None)
    large = bytes(range(256)) * (PIECE // 128)
    stream.send(b"small")
    got, rest = bytearray(), large
    while rest:
        try:
            rest = rest[stream.send(rest) :]
        except BlockingIOError:
            got += everything(broker)
    stream.flush()
    assert got + everything(broker) == b"small" + large


def test_what_waits_goes_out_before_the_end(ends: Ends) -> None:
    stream, broker = ends
    stream.write_behind(lambda: None)
    stream.send(b"DISCONNECT")
    stream.close()
    assert everything(broker) == b"DISCONNECT"


def test_a_broken_connection_is_an_oserror_at_the_flush_and_none_at_the_end(ends: Ends) -> None:
    stream, broker = ends
    stream.write_behind(lambda: None)
    broker.close()
    stream.send(b"x")
    with pytest.raises(OSError, match=r"[Bb]roken pipe|reset"):
        stream.flush()
    stream.close()
