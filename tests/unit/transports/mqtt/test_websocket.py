"""WebSocket frames as brokers send them, cut anywhere, and as no broker may."""

from __future__ import annotations

import contextlib
import socket
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.addresses import Broker
from edged.transports.mqtt.websocket import WebSocket, frame, opened

BROKER = Broker("b", 80, tls=False, path="/mqtt")
Ends = tuple[WebSocket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield WebSocket(ours), theirs
    ours.close()
    theirs.close()


def unmasked(kind: int, payload: bytes, *, final: bool = True) -> bytes:
    """A frame as a broker sends it."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 2**16:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes([(0x80 if final else 0) | kind]) + length + payload


def read(one: WebSocket) -> bytes:
    """What can be read now."""
    found = bytearray()
    with contextlib.suppress(BlockingIOError):
        while data := one.recv(1000):
            found += data
    return bytes(found)


def taken_apart(data: bytes) -> list[tuple[int, bytes]]:
    """(kind, payload) of a client's frames; each has to be final and masked."""
    found = []
    while data:
        assert data[0] & 0xF0 == 0x80
        assert data[1] & 0x80
        size, at = data[1] & 0x7F, 2
        if size > 125:
            at = 4 if size == 126 else 10
            size = int.from_bytes(data[2:at], "big")
        key, masked = data[at : at + 4], data[at + 4 : at + 4 + size]
        found.append((data[0] & 0x0F, bytes(byte ^ key[index % 4] for index, byte in enumerate(masked))))
        data = data[at + 4 + size :]
    return found


MESSAGES = st.lists(st.lists(st.binary(max_size=300) | st.just(b"L" * 70_000), min_size=1, max_size=3), max_size=5)


@given(MESSAGES, st.lists(st.integers(1, 500), min_size=1, max_size=8), st.booleans())
@settings(deadline=None, max_examples=50)
def test_the_payload_is_read_however_it_is_framed_and_cut(
    messages: list[list[bytes]], cuts: list[int], pings: bool
) -> None:
    sent, payload = bytearray(), bytearray()
    for pieces in messages:
        for index, piece in enumerate(pieces):
            sent += unmasked(0 if index else 2, piece, final=index == len(pieces) - 1)
            if pings:
                sent += unmasked(9, b"are you there") + unmasked(10, b"")
            payload += piece
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        one, got, rest, turn = WebSocket(ours), bytearray(), bytes(sent), 0
        while rest:
            size = cuts[turn % len(cuts)] * (1 if len(rest) < 5000 else 200)
            theirs.sendall(rest[:size])
            rest, turn = rest[size:], turn + 1
            got += read(one)
        assert got == payload
        assert one.pending() == 0


def test_small_frames_that_come_together_are_read_together(ends: Ends) -> None:
    one, broker = ends
    broker.sendall(unmasked(2, b"one") + unmasked(2, b"two") + unmasked(2, b"three")[:4])
    assert one.recv(6) == b"onetwo"
    assert one.recv(100) == b"th"
    with pytest.raises(BlockingIOError):
        one.recv(1)


@given(st.binary(max_size=400) | st.just(b"x" * 70_000))
def test_what_is_sent_is_masked_and_whole(payload: bytes) -> None:
    assert taken_apart(frame(2, payload)) == [(2, payload)]


def test_masks_are_not_repeated() -> None:
    assert len({frame(2, bytes(8)) for _ in range(20)}) == 20


def test_a_broker_that_does_not_read_gets_each_byte_once_afterwards(ends: Ends) -> None:
    one, broker = ends
    broker.setblocking(False)
    rest, wire = bytes(range(256)) * 8192, bytearray()
    sent = rest
    while rest:
        try:
            rest = rest[one.send(rest) :]
        except BlockingIOError:
            broker.setblocking(True)
            wire += broker.recv(100_000)
    broker.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while data := broker.recv(2**20):
            wire += data
    assert b"".join(payload for _, payload in taken_apart(bytes(wire))) == sent


def test_a_ping_is_answered_at_once_and_between_frames(ends: Ends) -> None:
    one, broker = ends
    broker.sendall(unmasked(9, b"1"))
    assert read(one) == b""
    assert taken_apart(broker.recv(1000)) == [(10, b"1")]
    with pytest.raises(BlockingIOError):
        while True:
            one.send(b"x" * 100_000)
    broker.sendall(b"".join(unmasked(9, b"%d" % number) for number in range(2000)))
    for _ in range(5):
        assert read(one) == b""
    wire, broken = bytearray(), True
    while broken:
        wire += broker.recv(2**20)
        try:
            one.send(b"x" * 100_000)
        except BlockingIOError:
            continue
        broken = False
    one.send(b"after")
    wire += broker.recv(2**20)
    found = taken_apart(bytes(wire))
    assert [payload for kind, payload in found if kind == 10] == [b"1999"]  # the newest is enough (RFC 6455, 5.5.3)
    assert found[-1] == (2, b"after")


@pytest.mark.parametrize(
    "bad",
    [
        frame(2, b"masked"),
        b"\xc2\x01x",  # an extension that nobody agreed to
        unmasked(1, b"text"),
        unmasked(3, b""),
        unmasked(0, b"continues nothing"),
        unmasked(2, b"a", final=False) + unmasked(2, b"another begins"),
        unmasked(9, b"a ping in pieces", final=False),
        unmasked(9, b"x" * 126),
    ],
    ids=["masked", "extended", "text", "unknown", "continues nothing", "interrupted", "ping in pieces", "long ping"],
)
def test_a_frame_that_a_broker_may_not_send_ends_it(ends: Ends, bad: bytes) -> None:
    one, broker = ends
    broker.sendall(bad)
    with pytest.raises(ConnectionError, match="may not send"):
        for _ in range(3):
            one.recv(1)
    assert read(one) in (b"", b"a")
    assert one.recv(1) == b""


def test_a_frame_takes_no_memory_by_what_it_says(ends: Ends) -> None:
    one, broker = ends
    broker.sendall(b"\x82\x7f\x7f" + b"\xff" * 7)
    tracemalloc.start()
    try:
        for _ in range(100):
            broker.sendall(bytes(50_000))
            assert len(read(one)) == 50_000
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_close_is_the_end(ends: Ends) -> None:
    one, broker = ends
    broker.sendall(unmasked(2, b"last") + unmasked(8, b"\x03\xe8"))
    assert one.recv(100) == b"last"
    assert one.recv(100) == b""


# --- the handshake --------------------------------------------------------------------------------

ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"sec-websocket-accept: %s\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)


def shaken(answer: bytes, limit_s: float = 5.0) -> tuple[WebSocket, bytes]:
    """What comes of a handshake with a broker that says this, and what it was asked."""
    ours, theirs = socket.socketpair()
    asked = []

    def serve() -> None:
        asked.append(theirs.recv(10_000))
        with contextlib.suppress(OSError):
            theirs.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        return opened(ours, BROKER, limit_s), asked[0]
    finally:
        thread.join()
        theirs.close()


def test_a_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.urandom", lambda size: b"the sample nonce"[:size])  # RFC 6455, 1.3
    one, asked = shaken(ACCEPT % b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" + unmasked(2, b"early"))
    assert b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in asked
    assert asked.startswith(b"GET /mqtt HTTP/1.1\r\nHost: b:80\r\n")
    assert one.recv(100) == b"early"
    one.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found.*is /mqtt its path"),
        (b"\x20\x02\x00\x00\r\n\r\n", "no WebSocket"),
        (ACCEPT % b"something else", "not one to ours"),
        (b"HTTP/1.1 101 x\r\n" + b"a: b\r\n" * 10_000, "no end"),
        (b"", "within|timed out|ended"),
    ],
)
def test_no_handshake(answer: bytes, why: str) -> None:
    with pytest.raises(OSError, match=why):
        shaken(answer, 0.3)


def test_a_broker_that_trickles_has_no_longer() -> None:
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(0.02):
                theirs.send(b"H")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        with pytest.raises(TimeoutError):
            opened(ours, BROKER, 0.3)
    finally:
        stop.set()
        thread.join()
        theirs.close()
