"""One connection to the broker from its hand-over by the dialling thread to its end, driven by the loop (RULES 17)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, cast

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.packets import Greeting, greeting, publish_properties, subscribe_arguments
from edged.transports.mqtt.stream import Stream
from edged.transports.mqtt.subscriptions import Subscription
from edged.transports.mqtt.versions import Version

_log = logging.getLogger(__name__)
_PACKETS_A_TURN: Final = 64
_TICK_S: Final = 1.0
_UNSUPPORTED: Final = 0x84  # MQTT 5, 3.2.2.2; paho translates 3.1.1's code 1 to it
_FINE: Final = (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN)


class Events(Protocol):
    """What a connection tells its owner, in the loop; `turn` comes after each turn of reading."""

    def message(self, number: int, message: MQTTMessage) -> None: ...
    def confirmed(self, mid: int, refusal: str) -> None: ...
    def subscribed(self, granted: Sequence[bool]) -> None: ...
    def turn(self) -> None: ...
    def pause_ended(self) -> None: ...
    def bug(self) -> None: ...


class Wire:
    """`greeted` is called from paho's callback with the CONNACK's content, `ended` once, with the reason.

    `refusal` is the broker's reason for a CONNACK that is not good, `unsupported` that it is the version.
    """

    def __init__(
        self,
        client: Client,
        number: int,
        version: Version,
        events: Events,
        *,
        greeted: Callable[[Greeting], None],
        ended: Callable[[Wire, str], None],
    ) -> None:
        self.client = client
        self.number = number
        self.version = version
        self.greeting: Greeting | None = None
        self.refusal = ""
        self.unsupported = False
        self._events = events
        self._greeted = greeted
        self._ended = ended
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._fd = -1
        self._unconfirmed: set[int] = set()
        self._writing = False
        self._stuck = False  # the socket did not take all that it was given
        self._tick: asyncio.TimerHandle | None = None
        self._ticked_s = time.monotonic()
        self._pause: asyncio.TimerHandle | None = None
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_close = self._on_socket_close

    # --- for the link -----------------------------------------------------------------------------

    def attach(self) -> bool:
        """Takes the client over from the dialling thread; False when its socket is closed already."""
        stream = self._stream
        if stream is None:
            return False
        self._fd = stream.fileno()
        stream.write_behind(self._flush_soon)
        self._loop.add_reader(self._fd, self._guard, self._read)
        self._beat()
        return True

    def goodbye(self) -> None:
        """Sends DISCONNECT behind all else, so that the broker keeps the will to itself."""
        self._guard(self.client.disconnect)
        self._watch_writer()

    def close(self, reason: str) -> None:
        """Ends the connection now, without a word to the broker."""
        if not self._over:
            # The documented way to drop a connection at once: paho closes its socket here.
            self.client.connect_async("closed")
            self._finish(reason)

    @property
    def open(self) -> bool:
        return not self._over and self.client.socket() is not None

    @property
    def _stream(self) -> Stream | None:
        return cast("Stream | None", self.client.socket())

    def alive(self) -> bool:
        return time.monotonic() - self._ticked_s < 5 * _TICK_S

    # --- for the owner ----------------------------------------------------------------------------

    def publish(self, message: Publication) -> int | None:
        """paho's packet identifier; 0 when the message is written already (QoS 0), None when it was not taken."""
        properties = publish_properties(message, time.monotonic()) if self.version == "5" else None
        if not message.qos:  # what is written at once needs no callback, for which paho makes two objects
            self.client.on_publish = None
        info = self.client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        self.client.on_publish = self._on_publish
        self._watch_writer()
        if info.rc not in _FINE:
            return None
        if message.qos:
            self._unconfirmed.add(info.mid)
        return 0 if message.qos == 0 and info.is_published() else info.mid

    def subscribe(self, batch: Sequence[Subscription]) -> None:
        """One SUBSCRIBE; its answer comes as `subscribed`."""
        identifiers = self.greeting is not None and self.greeting.identifiers
        self.client.subscribe(**subscribe_arguments(batch, self.version, identifiers=identifiers))
        self._watch_writer()

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """One UNSUBSCRIBE; what was under way may still come."""
        self.client.unsubscribe(list(filters))
        self._watch_writer()

    def acknowledge(self, mid: int) -> None:
        self.client.ack(mid, 1)
        self._watch_writer()

    def pause(self) -> None:
        """Stops reading for half a keepalive at most: paho would close the connection at two of them."""
        if self._pause is None and self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_later(self.client.keepalive / 2, self._pause_over)

    def resume(self) -> None:
        if self._pause is None:
            return
        self._pause.cancel()
        self._pause = None
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._guard, self._read)
            self._loop.call_soon(self._guard, self._read)  # TLS may hold bytes that no reader announces

    def _pause_over(self) -> None:
        self._events.pause_ended()
        self.resume()

    # --- turns of the loop ------------------------------------------------------------------------

    def _guard(self, step: Callable[[], object]) -> None:
        """No byte of a broker may end the daemon: paho raises whatever it stumbles over."""
        if self._over:
            return
        try:
            step()
        except Exception:  # noqa: BLE001  logged, counted, and the connection ends
            _log.exception("the MQTT connection failed on what the broker sent")
            self._events.bug()
            self.close("a packet that cannot be read")

    def _read(self) -> None:
        if self._pause is not None:
            return
        packets = 0
        while packets < _PACKETS_A_TURN:
            packets += max(1, len(self._unconfirmed))  # so many does paho read in one call
            self.client.loop_read()
            stream = self._stream
            if self._pause is not None or stream is None or not stream.pending():
                break
        else:
            self._loop.call_soon(self._guard, self._read)
        if not self.open:
            return
        self._events.turn()
        if self.client.want_write():  # what callbacks published or acknowledged is only queued
            self.client.loop_write()
        self._watch_writer()

    def _flush_soon(self) -> None:
        """What this turn of the loop still publishes goes out with it."""
        self._loop.call_soon(self._guard, self._write)

    def _write(self) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            stream.flush()
        except OSError as error:
            self.close(str(error))
            return
        self._stuck = stream.unsent > 0
        if self.client.want_write():
            self.client.loop_write()
        self._watch_writer()

    def _watch_writer(self) -> None:
        wanted = self._fd >= 0 and (self._stuck or self.client.want_write())
        if wanted and not self._writing:
            self._loop.add_writer(self._fd, self._guard, self._write)
        elif self._writing and not wanted and self._fd >= 0:
            self._loop.remove_writer(self._fd)
        self._writing = wanted

    def _beat(self) -> None:
        self._ticked_s = time.monotonic()
        self._tick = self._loop.call_later(_TICK_S, self._beat)
        self._guard(self.client.loop_misc)
        self._watch_writer()

    def _finish(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        self._unwatch()
        for timer in (self._tick, self._pause):
            if timer is not None:
                timer.cancel()
        self._tick = self._pause = None
        self._ended(self, reason)

    def _unwatch(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            self._writing = False

    # --- paho's callbacks: each only notes or hands on, and none may raise ---------------------------

    def _on_connect(
        self, _client: Client, _data: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self.refusal = str(reason)
            self.unsupported = reason.value == _UNSUPPORTED
            return
        said = greeting(self.number, self.version, properties, session_present=bool(flags.session_present))
        self.greeting = said
        self._greeted(said)

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        # In the dialling thread when CONNECT could not be written; then there is nothing to tell yet.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._finish, self.refusal or str(reason))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        try:
            self._events.message(self.number, message)
        except Exception:  # noqa: BLE001  logged and counted; raised, it would end in paho's hands
            _log.exception("a message could not be taken")
            self._events.bug()
            if message.qos:
                self.client.ack(message.mid, message.qos)

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._unconfirmed.discard(mid)
        self._events.confirmed(mid, str(reason) if reason.is_failure else "")

    def _on_subscribe(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        self._events.subscribed([not reason.is_failure for reason in reasons])

    def _on_socket_close(self, _client: Client, _data: Any, _sock: Any) -> None:
        self._unwatch()
