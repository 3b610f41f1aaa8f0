"""What paho has for a socket: it reads ahead and may write behind, so that small packets share system calls.

paho reads a packet's first byte, each byte of its length and its rest by a call each, and writes every
packet by one. Of what that cost, a half was system calls (docs/adr/0003).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

from paho.mqtt.client import Client

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

    def _create_socket(self) -> Stream:
        return Stream(super()._create_socket())  # type: ignore[arg-type]  # TCP or TLS: no other transport is configured
