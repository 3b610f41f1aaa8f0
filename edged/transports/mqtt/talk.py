"""A connection that a thread of its own turns over: read, written, and waited for. Blocking."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Any, Final, cast

from paho.mqtt.enums import MQTTErrorCode

from edged.transports.mqtt import codec
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.reader import Reader
from edged.transports.mqtt.stream import Stream, StreamingClient
from edged.transports.mqtt.versions import Version

_FINE: Final = MQTTErrorCode.MQTT_ERR_SUCCESS


class Talk:
    """Of a client that has dialled. `message` gets each message, which is acknowledged when it returns, and the next
    one read then. What the thread publishes is paho's, and so is the broker's word on it. `most` bytes has a packet.
    """

    def __init__(
        self, client: StreamingClient, version: Version, most: int, message: Callable[[Arrival], None]
    ) -> None:
        self._client = client
        self._message = message
        self._stream = cast("Stream | None", client.socket())
        self._more = False  # to be read, that no descriptor announces
        if self._stream is not None:
            self._stream.take_over(_nothing, most, told=version == "5", ours=codec.is_sent)
            self._reader = Reader(client, self._stream, 0, version, message=self._take, confirmed=_no_confirmation)
        client.on_socket_close = self._closed

    def turn(self, limit_s: float, bell: int) -> bool:
        """Reads and writes once there is something to, within the limit; False when the connection is gone.

        `bell`: an eventfd that ends the wait too. Raises MalformedPacket, Excessive, OSError for what the broker does,
        and what `message` raises.
        """
        stream = self._stream
        if stream is None:
            return False
        poll = select.poll()
        poll.register(stream, select.POLLIN | (select.POLLOUT if stream.unsent else 0))
        poll.register(bell, select.POLLIN)
        ready = dict(poll.poll(0 if self._more else 1000 * limit_s))
        if bell in ready:
            os.eventfd_read(bell)
        if self._more or ready.get(stream.fileno(), 0) & ~select.POLLOUT:
            self._more = self._reader.turn()
        if self._stream is not None:
            self._reader.vouch()
        self._client.loop_misc()
        if self._client.want_write():  # what paho's callbacks had it write is only queued
            self._client.loop_write()
        stream.flush()
        return self._stream is not None

    def _take(self, came: Arrival) -> None:
        self._message(came)
        if came.qos and self._stream is not None:
            self._stream.send(codec.acknowledgement(came.mid))
            self._stream.flush()

    def _closed(self, _client: Any, _data: Any, _sock: Any) -> None:
        if self._stream is not None:
            self._stream, self._reader.held = None, True


def _nothing() -> None:
    """Each turn flushes."""


def _no_confirmation(_mid: int, _refusal: str) -> None:
    """They are paho's."""
