"""What paho has for a socket: it reads ahead and may write behind, so that small packets share system calls.

paho reads a packet's first byte, each byte of its length and its rest by a call each, and writes every
packet by one. Of what that cost, a half was system calls (docs/adr/0003).
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

_FINE: Final = MQTTErrorCode.MQTT_ERR_SUCCESS
PIECE: Final = 64 * 1024  # bytes; what is larger goes straight through


class Stream:
    """Around a connected socket, TLS or not. Until `write_behind` each send goes out at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._ahead = b""
        self._at = 0
        self._behind = bytearray()
        self._wake: Callable[[], object] | None = None

    def write_behind(self, wake: Callable[[], object]) -> None:
        """From now on what is sent is kept for `flush`; `wake` is called when there is something to flush."""
        self._wake = wake

    @property
    def unsent(self) -> int:
        """Bytes that wait for a flush."""
        return len(self._behind)

    def flush(self) -> None:
        """Sends what waits, as far as the socket takes it. Raises OSError when the connection is broken."""
        if self._behind:
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                del self._behind[: self._sock.send(self._behind)]

    # --- for paho ---------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """At most `size` bytes, b"" at the end. Raises what the socket raises, such as BlockingIOError."""
        if self._at == len(self._ahead):
            if size >= PIECE:
                return self._sock.recv(size)
            self._ahead, self._at = self._sock.recv(PIECE), 0
        start = self._at
        self._at = min(start + size, len(self._ahead))
        return self._ahead[start : self._at]

    def pending(self) -> int:
        """Bytes that can be read although the socket would not say so."""
        inside = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return len(self._ahead) - self._at + inside

    def send(self, data: bytes | bytearray) -> int:
        """How much of `data` was taken. Raises BlockingIOError when none can be."""
        if self._wake is None:
            return self._sock.send(data)
        if len(self._behind) + len(data) > PIECE:
            self.flush()
            if self._behind:
                raise BlockingIOError
            if len(data) > PIECE:
                return self._sock.send(data)
        if not self._behind:
            self._wake()
        self._behind += data
        return len(data)

    def close(self) -> None:
        """A DISCONNECT may still wait: it goes out before the end."""
        with contextlib.suppress(OSError):
            self.flush()
        self._sock.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  a socket's signature
        self._sock.setblocking(flag)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self._sock.setsockopt(level, option, value)


class StreamingClient(Client):
    """paho's client on a Stream."""

    def turn(self, limit_s: float, bell: int = -1) -> bool:
        """Reads and writes once there is something to, within the limit; False when the connection is gone.

        `bell`: an eventfd that ends the wait too. paho's own `loop` cannot be woken from outside, has a select(2) that
        ends at descriptor 1024, and makes two sockets that nobody closes.
        """
        stream = cast("Stream | None", self.socket())
        if stream is None:
            return False
        ahead = stream.pending() > 0
        poll = select.poll()
        poll.register(stream, select.POLLIN | (select.POLLOUT if self.want_write() else 0))
        if bell >= 0:
            poll.register(bell, select.POLLIN)
        ready = dict(poll.poll(0 if ahead else 1000 * limit_s))
        if bell in ready:
            os.eventfd_read(bell)
        readable = ahead or ready.get(stream.fileno(), 0) & ~select.POLLOUT
        if readable and self.loop_read() is not _FINE:
            return False
        if self.want_write() and self.loop_write() is not _FINE:
            return False
        return self.loop_misc() is _FINE

    def _create_socket(self) -> Stream:
        return Stream(super()._create_socket())  # type: ignore[arg-type]  # TCP or TLS: no other transport is configured
