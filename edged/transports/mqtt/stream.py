"""What paho has for a socket: it reads ahead, may keep the packets of the data path from paho, and may write behind.

paho reads a packet's first byte, each byte of its length and its rest by a call each, makes four objects of a
message, and writes every packet by a call (docs/adr/0003 has what that costs).
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

from edged.config.addresses import Broker
from edged.transports.mqtt import websocket
from edged.transports.mqtt.codec import Bytes, is_publish, length, ours
from edged.transports.mqtt.websocket import BLOCKED, WebSocket

_FINE: Final = MQTTErrorCode.MQTT_ERR_SUCCESS
PIECE: Final = 64 * 1024  # bytes; what is larger goes straight through
_GROWTH: Final = 2**20  # bytes; what a packet is given at first, however long it says that it is
_STEP: Final = 4 * 2**20  # bytes at a time at most, as whoever grows keeps all others waiting
_ALL: Final = 2**62


class Stream:
    """Around a connected socket, TLS or WebSocket or neither. Until `take_over` all is paho's, and sent at once."""

    def __init__(self, sock: socket.socket | WebSocket) -> None:
        self._sock = sock
        self._ahead = b""
        self._at = 0
        self._large: _Large | None = None
        self._behind = bytearray()
        self._wake: Callable[[], object] | None = None
        self._most = _ALL
        self._told = True
        self._ours: Callable[[int], bool] = ours
        self.lent: int = _ALL  # so many of the next bytes are paho's to read
        self.left_out = 0  # so many of the last packet's bytes
        self.broken: OSError | None = None  # what reading came upon, if it was no mere end

    def take_over(
        self,
        wake: Callable[[], object],
        most: int = _ALL,
        *,
        told: bool = True,
        ours: Callable[[int], bool] = ours,
    ) -> None:
        """From now on `packet` and `fill` read those that are `ours`, and paho what is `lent` to it.

        What is sent is kept for `flush`; `wake` is called when there is something to flush. `most` bytes has a packet;
        a broker that was not `told` so may send larger messages, of which the end is left out.
        """
        self.lent, self._wake = 0, wake
        self._most, self._told, self._ours = most, told, ours

    # --- reading, packet by packet ------------------------------------------------------------------

    def packet(self) -> tuple[int, Bytes] | None:
        """The next packet if it is ours, and here whole: its first byte and what is behind its length.

        When the next one is another kind, its bytes are `lent`. Raises MalformedPacket, Excessive.
        """
        if self._large is not None:
            return self._finished(self._large)
        ahead, at = self._ahead, self._at
        if self.lent or len(ahead) - at < 2:
            return None
        head, size, start = ahead[at], ahead[at + 1], at + 2
        if size > 0x7F:  # two bytes of length are read here: what a call costs, a tenth of what `packet` does
            if len(ahead) > start and ahead[start] < 0x80:
                size, start = size & 0x7F | ahead[start] << 7, start + 1
            else:
                size, start = length(ahead, at + 1)
                if size < 0:
                    return None
        if size > self._most and (self._told or not is_publish(head)):
            raise Excessive(f"the broker sent a packet of {size} bytes; {self._most} are the most that is taken")
        if not self._ours(head):
            self.lent = start - at + size
            return None
        end = start + size
        if end <= len(ahead):
            self._at = end
            return head, ahead[start:end]
        if size > PIECE:
            self._large = _Large(head, size, ahead[start:], size if size <= self._most else PIECE)
            self._at = len(ahead)
        return None

    def fill(self) -> bool:
        """Reads what has come; whether something has. That the connection has ended, or why, is lent to paho to find
        out.
        """
        try:
            if self._large is not None:
                ended = not self._large.fill(self._sock)
            else:
                data = self._sock.recv(PIECE)
                self._ahead, self._at = self._ahead[self._at :] + data, 0
                ended = not data
        except BLOCKED:
            return False
        except OSError as error:
            ended, self.broken = True, error
        if ended:
            self.lent = _ALL
        return not ended

    def insert(self, packet: bytes) -> None:
        """Lends paho a packet that the broker has not sent, before all that it has. Only while nothing is lent."""
        self._ahead, self._at, self.lent = packet + self._ahead[self._at :], 0, len(packet)

    @property
    def hidden(self) -> bool:
        """Whether there are bytes that no file descriptor announces: TLS or WebSocket have read them."""
        return isinstance(self._sock, ssl.SSLSocket | WebSocket) and self._sock.pending() > 0

    @property
    def partial(self) -> bool:
        """Whether a packet has begun to come."""
        return self._large is not None or len(self._ahead) > self._at

    def _finished(self, large: _Large) -> tuple[int, Bytes] | None:
        if not large.whole:
            return None
        self._large = None
        self.left_out = large.left_out
        return large.head, large.body

    # --- writing ------------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes that wait for a flush."""
        return len(self._behind)

    def flush(self) -> None:
        """Sends what waits, as far as the socket takes it. Raises OSError when the connection is broken."""
        if self._behind:
            with contextlib.suppress(*BLOCKED):
                del self._behind[: self._sock.send(self._behind)]

    def send(self, data: bytes | bytearray) -> int:
        """How much of `data` was taken: all, once taken over, so whoever sends looks at `unsent`.

        Raises what the socket raises.
        """
        if self._wake is None:
            return self._sock.send(data)
        taken = 0
        if not self._behind:
            if len(data) > PIECE:  # not copied, as far as the socket takes it
                with contextlib.suppress(*BLOCKED):
                    taken = self._sock.send(data)
            self._wake()
        self._behind += memoryview(data)[taken:] if taken else data
        return len(data)

    # --- for paho -----------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """At most `size` bytes of what is lent, b"" at the end. Raises what the socket raises, also BlockingIOError."""
        size = min(size, self.lent)
        if not size:
            raise BlockingIOError
        if self._at == len(self._ahead):
            if size >= PIECE:
                return self._borrowed(self._sock.recv(size))
            self._ahead, self._at = self._sock.recv(PIECE), 0
        start = self._at
        self._at = min(start + size, len(self._ahead))
        return self._borrowed(self._ahead[start : self._at])

    def _borrowed(self, data: bytes) -> bytes:
        if self.lent < _ALL:
            self.lent -= len(data)
        return data

    def pending(self) -> int:
        """Bytes that can be read although the socket would not say so."""
        inside = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket | WebSocket) else 0
        return len(self._ahead) - self._at + inside

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


class Excessive(Exception):
    """The broker sends more than it was told that we take."""


class _Large:
    """A packet too long to be read ahead: `body` grows as it comes, not as its length says, up to `kept` bytes."""

    def __init__(self, head: int, size: int, begun: bytes, kept: int) -> None:
        self.head = head
        self.body = bytearray(begun[:kept])
        self.left_out = size - kept
        self._size = kept
        self._have = len(self.body)
        self._over = self.left_out - (len(begun) - len(self.body))  # bytes to read and forget

    @property
    def whole(self) -> bool:
        return self._have == self._size and not self._over

    def fill(self, sock: socket.socket | WebSocket) -> int:
        """Reads into it; how many bytes, 0 at the end. Raises what the socket raises."""
        if self._have == self._size:
            count = len(sock.recv(min(self._over, PIECE)))
            self._over -= count
            return count
        if self._have == len(self.body):
            self.body.extend(bytes(min(self._size - self._have, max(self._have, _GROWTH), _STEP)))
        with memoryview(self.body) as view:
            count = sock.recv_into(view[self._have :])
        self._have += count
        return count


class StreamingClient(Client):
    """paho's client on a Stream. `broker`: where it is to connect to, before it does."""

    broker: Broker | None = None

    def turn(self, limit_s: float) -> bool:
        """Reads and writes once there is something to, within the limit; False when the connection is gone.

        paho's own `loop` has a select(2) that ends at descriptor 1024, and makes two sockets that nobody closes.
        """
        stream = cast("Stream | None", self.socket())
        if stream is None:
            return False
        ahead = stream.pending() > 0
        poll = select.poll()
        poll.register(stream, select.POLLIN | (select.POLLOUT if self.want_write() else 0))
        ready = dict(poll.poll(0 if ahead else 1000 * limit_s))
        readable = ahead or ready.get(stream.fileno(), 0) & ~select.POLLOUT
        if readable and self.loop_read() is not _FINE:
            return False
        if self.want_write() and self.loop_write() is not _FINE:
            return False
        return self.loop_misc() is _FINE

    def _create_socket(self) -> Stream:
        sock = cast("socket.socket", super()._create_socket())  # TCP or TLS: paho is told of no other transport
        if self.broker is None or not self.broker.path:
            return Stream(sock)
        return Stream(websocket.opened(sock, self.broker, self.connect_timeout))
