"""A socket's calls over WebSocket frames (RFC 6455), as a client: what MQTT's bytes travel in at `ws://` and `wss://`.

Instead of paho's own, which answers a ping with a frame that brokers have to refuse (5.1: a client's are masked), masks
byte by byte, reads a handshake without an end, and copies all of a frame that has begun at each read.

A broker is trusted with nothing: a frame is passed on as it comes, however long it says that it is; control frames have
125 bytes at most; of pings that cannot be answered at once only the newest is; all else ends the connection.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import ssl
import time
from typing import Final

from edged.config.addresses import Broker

PIECE: Final = 64 * 1024  # bytes that are read at a time
_FRAME: Final = 256 * 1024  # bytes in one of ours at most: masking 1 MiB would keep the loop for 3 ms
_HEADER: Final = 16 * 1024  # bytes of the broker's answer to the handshake
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x2, 0x8, 0x9, 0xA
_FINAL: Final = 0x80
_MASKED: Final = 0x80
_CONTROL_MOST: Final = 125
_GOODBYE: Final = b"\x03\xe8"  # 1000: a normal end
BLOCKED: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class WebSocket:
    """Around a connected socket that has been through the handshake; `ahead` is what came behind it."""

    def __init__(self, sock: socket.socket, ahead: bytes = b"") -> None:
        self._sock = sock
        self._raw = ahead
        self._inside = bytearray()  # the payload of data frames
        self._left = 0  # bytes of the data frame that has begun
        self._fragmented = False
        self._ended = ""  # why nothing more is read
        self._out = bytearray()
        self._taken = 0  # bytes of whoever sends that are in the frame in `_out`
        self._pong = b""
        if ahead:
            self._decode()

    def recv(self, size: int) -> bytes:
        """At most `size` bytes, b"" at the end. Raises what the socket raises, and ConnectionError for a bad frame."""
        if not self._inside:
            self._read()
        found = bytes(memoryview(self._inside)[:size])
        del self._inside[: len(found)]
        if not found and not self._ended:
            raise BlockingIOError  # what came was no payload
        return found

    def recv_into(self, view: memoryview) -> int:
        found = self.recv(len(view))
        view[: len(found)] = found
        return len(found)

    def pending(self) -> int:
        """Bytes that can be read although the socket would not say so."""
        return len(self._inside) + (self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0)

    def send(self, data: bytes | bytearray) -> int:
        """How much of `data` was sent. Raises BlockingIOError, after which it is called with the same bytes again."""
        if not self._taken:
            with memoryview(data) as view:
                payload = bytes(view[:_FRAME])
            self._out += self._pong + frame(_BINARY, payload)
            self._pong = b""
            self._taken = len(payload)
        self._drain()
        taken, self._taken = self._taken, 0
        return taken

    def close(self) -> None:
        if not self._out:
            with contextlib.suppress(OSError):
                self._sock.send(frame(_CLOSE, _GOODBYE))
        self._sock.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  a socket's signature
        self._sock.setblocking(flag)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self._sock.setsockopt(level, option, value)

    def _drain(self) -> None:
        while self._out:
            del self._out[: self._sock.send(self._out)]

    # --- reading ------------------------------------------------------------------------------------

    def _read(self) -> None:
        if self._ended:
            return
        data = self._sock.recv(PIECE)
        if not data:
            self._ended = "closed"
            return
        self._raw += data
        self._decode()

    def _decode(self) -> None:
        """Takes apart what is here; at most the head of a frame and 125 bytes stay. Raises ConnectionError."""
        raw, at = self._raw, 0
        while not self._ended:
            if self._left:
                piece = raw[at : at + self._left]
                self._inside += piece
                at += len(piece)
                self._left -= len(piece)
            found = None if self._left else self._frame(raw, at)
            if found is None:
                break
            at = found
        self._raw = raw[at:]

    def _frame(self, raw: bytes, at: int) -> int | None:
        """Where the payload of the data frame that begins at `at` begins, or what is behind a control frame.

        None when it is not here yet.
        """
        head, size, start = raw[at : at + 2], 0, at + 2
        if len(head) < 2:
            return None
        kind, size = head[0] & 0x0F, head[1] & 0x7F
        if size > _CONTROL_MOST:
            start += 2 if size == _CONTROL_MOST + 1 else 8
            size = int.from_bytes(raw[at + 2 : start], "big")
        if head[1] & _MASKED or head[0] & 0x70 or not self._fits(kind, head):
            self._ended = f"a WebSocket frame {head.hex()} that a broker may not send"
            raise ConnectionError(self._ended)
        if kind in (_BINARY, _CONTINUATION):
            if start > len(raw):
                return None
            self._fragmented = not head[0] & _FINAL
            self._left = size
            return start
        if start + size > len(raw):
            return None
        self._control(kind, raw[start : start + size])
        return start + size

    def _fits(self, kind: int, head: bytes) -> bool:
        """Whether a frame of this kind may come now; MQTT's are binary (MQTT 5, 6.0)."""
        if kind in (_BINARY, _CONTINUATION):
            return (kind == _CONTINUATION) == self._fragmented
        return kind in (_CLOSE, _PING, _PONG) and head[0] & _FINAL > 0 and head[1] <= _CONTROL_MOST

    def _control(self, kind: int, payload: bytes) -> None:
        if kind == _CLOSE:
            self._ended = "closed"
        elif kind == _PING:
            self._pong = frame(_PONG, payload)
            if not self._out:
                self._out, self._pong = bytearray(self._pong), b""
                with contextlib.suppress(OSError):  # it goes with what is sent next, or that finds out
                    self._drain()


def frame(kind: int, payload: bytes) -> bytes:
    """One final frame from a client, masked with a key that nobody can foresee (RFC 6455, 5.3)."""
    size, key = len(payload), os.urandom(4)
    if size <= _CONTROL_MOST:
        length = bytes([_MASKED | size])
    elif size < 2**16:
        length = bytes([_MASKED | _CONTROL_MOST + 1]) + size.to_bytes(2, "big")
    else:
        length = bytes([_MASKED | _CONTROL_MOST + 2]) + size.to_bytes(8, "big")
    mask = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return bytes([_FINAL | kind]) + length + key + masked.to_bytes(size, "big")


def opened(sock: socket.socket, broker: Broker, limit_s: float) -> WebSocket:
    """`sock` through the handshake, MQTT 5, 6.0. Blocks for `limit_s` at most. Closes it when it raises OSError."""
    key = base64.b64encode(os.urandom(16))
    host = f"[{broker.host}]" if ":" in broker.host else broker.host
    lines = [
        f"GET {broker.path} HTTP/1.1",
        f"Host: {host}:{broker.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key.decode()}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqtt",
    ]
    try:
        sock.settimeout(limit_s)
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        head, _, ahead = _answer(sock, time.monotonic() + limit_s).partition(b"\r\n\r\n")
        _check(head, key, broker)
        return WebSocket(sock, ahead)
    except BaseException:
        sock.close()
        raise


def _answer(sock: socket.socket, until_s: float) -> bytes:
    """What comes up to the end of the header, and what came with it. Raises OSError."""
    found = bytearray()
    while b"\r\n\r\n" not in found:
        sock.settimeout(max(0.001, until_s - time.monotonic()))
        try:
            data = sock.recv(_HEADER)
        except ConnectionResetError:
            data = b""
        if not data:
            raise ConnectionError("the broker ended the connection instead of answering as a WebSocket")
        found += data
        if len(found) > 2 * _HEADER:
            raise ConnectionError("the broker's answer to the WebSocket handshake has no end")
    return bytes(found)


def _check(head: bytes, key: bytes, broker: Broker) -> None:
    """Raises ConnectionError with what a person can do about it."""
    status, *lines = head.decode("latin-1").split("\r\n")
    said = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if status.split(" ")[1:2] != ["101"] or said.get("upgrade", "").lower() != "websocket":
        raise ConnectionError(
            f"the broker answers {status[:80]!r} and no WebSocket: is {broker.path} its path, {broker.port} the port?"
        )
    expected = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())  # noqa: S324  RFC 6455 asks for it; no secret
    if said.get("sec-websocket-accept", "") != expected.decode():
        raise ConnectionError("the broker's answer to the WebSocket handshake is not one to ours: is a cache between?")
    if said.get("sec-websocket-protocol", "mqtt") != "mqtt":
        raise ConnectionError("what answers as a WebSocket there does not speak MQTT")
