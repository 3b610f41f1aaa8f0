"""One connection to the broker from its hand-over by the dialling thread to its end, driven by the loop (RULES 17)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, cast

from paho.mqtt.client import Client
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edged.transports.mqtt import codec
from edged.transports.mqtt.clocks import boot_s
from edged.transports.mqtt.ends import End, of_error, of_reason
from edged.transports.mqtt.identifiers import Identifiers
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.packets import Greeting, greeting, subscribe_arguments
from edged.transports.mqtt.reader import Reader
from edged.transports.mqtt.stream import Excessive, Stream, StreamingClient
from edged.transports.mqtt.subscriptions import Subscription
from edged.transports.mqtt.versions import Version

_log = logging.getLogger(__name__)
_TICK_S: Final = 1.0
_UNSUPPORTED: Final = 0x84  # MQTT 5, 3.2.2.2; paho translates 3.1.1's code 1 to it
_UNREADABLE: Final = "a packet that cannot be read"


class Events(Protocol):
    """What a connection tells its owner, in the loop; `turn` comes after each turn of reading."""

    def message(self, came: Arrival) -> None: ...
    def confirmed(self, mid: int, refusal: str) -> None: ...
    def subscribed(self, mid: int, refusals: Sequence[str]) -> None: ...
    def turn(self) -> None: ...
    def pause_ended(self) -> None: ...
    def bug(self) -> None: ...


class Wire:
    """`greeted` is called from paho's callback with the CONNACK's content, `ended` once, with the reason.

    `refusal` is the broker's reason for a CONNACK that is not good, `unsupported` that it is the version. `most` bytes
    has a packet that we take.
    """

    def __init__(
        self,
        client: StreamingClient,
        number: int,
        version: Version,
        events: Events,
        most: int,
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
        self.end = End.AWAY
        self._events = events
        self._most = most
        self._greeted = greeted
        self._ended = ended
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._fd = -1
        self._stream: Stream | None = None  # from the hand-over until paho closes it
        self._read_last: Stream | None = None  # the same, and for good
        self._reader: Reader | None = None
        self._identifiers = Identifiers()
        self._writing = False
        self._stuck = False  # the socket did not take all that it was given
        self._moved_s = time.monotonic()  # when it took something, or had nothing to take
        self._tick: asyncio.TimerHandle | None = None
        self._ticked_s = time.monotonic()
        self._pause: asyncio.TimerHandle | None = None
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_socket_close = self._on_socket_close

    # --- for the link -----------------------------------------------------------------------------

    def attach(self) -> bool:
        """Takes the client over from the dialling thread; False when its socket is closed already."""
        stream = cast("Stream | None", self.client.socket())
        if stream is None:
            return False
        self._stream, self._read_last, self._fd = stream, stream, stream.fileno()
        stream.take_over(self._flush_soon, self._most, told=self.version == "5")
        self._reader = Reader(
            self.client, stream, self.number, self.version, message=self._hand, confirmed=self._confirmed
        )
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
        return not self._over and self._stream is not None

    def alive(self) -> bool:
        return time.monotonic() - self._ticked_s < 5 * _TICK_S

    # --- for the owner ----------------------------------------------------------------------------

    def publish(self, message: Publication) -> int | None:
        """The packet identifier that `confirmed` will name, 0 at QoS 0; None when there is no connection any more."""
        stream = self._stream
        if self._over or stream is None:
            return None
        mid = self._identifiers.next() if message.qos else 0
        stream.send(codec.publication(message, mid, self.version, boot_s()))
        return mid

    @property
    def busy(self) -> bool:
        """Whether a packet has begun to come."""
        stream = self._stream
        return stream is not None and stream.partial

    @property
    def unsent(self) -> int:
        """Bytes that the socket has not taken yet."""
        stream = self._stream
        return 0 if stream is None else stream.unsent

    def subscribe(
        self, batch: Sequence[Subscription], *, again: bool = False, retain_as_published: bool = False
    ) -> int:
        """One SUBSCRIBE; its answer comes as `subscribed` with this packet identifier, 0 when none can come."""
        identifiers = self.greeting is not None and self.greeting.identifiers
        arguments = subscribe_arguments(
            batch, self.version, identifiers=identifiers, again=again, retain_as_published=retain_as_published
        )
        _, mid = self.client.subscribe(**arguments)
        self._watch_writer()
        return self._identifiers.paho(mid)

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """One UNSUBSCRIBE; what was under way may still come."""
        _, mid = self.client.unsubscribe(list(filters))
        self._identifiers.paho(mid)
        self._watch_writer()

    def acknowledge(self, mid: int) -> None:
        self._send(codec.acknowledgement(mid))

    def _send(self, packet: bytes) -> None:
        stream = self._stream
        if not self._over and stream is not None:
            stream.send(packet)

    def pause(self) -> None:
        """Stops reading for half a keepalive at most: paho would close the connection at two of them."""
        if self._pause is None and self._fd >= 0:
            self._hold(held=True)
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_later(self.client.keepalive / 2, self._pause_over)

    def resume(self) -> None:
        if self._pause is None:
            return
        self._pause.cancel()
        self._pause = None
        self._hold(held=False)
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._guard, self._read)
            self._loop.call_soon(self._guard, self._read)  # TLS may hold bytes that no reader announces

    def _hold(self, *, held: bool) -> None:
        if self._reader is not None:
            self._reader.held = held

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
        except MalformedPacket as error:
            _log.debug("the broker sent %s", error)
            self.close(_UNREADABLE)
        except Excessive as error:
            self.close(str(error))
        except OSError as error:
            self.end = of_error(error)
            self.close(str(error))
        except Exception:  # noqa: BLE001  logged, counted, and the connection ends
            _log.exception("the MQTT connection failed on what the broker sent")
            self._fail()

    def _fail(self) -> None:
        self._events.bug()
        self.close(_UNREADABLE)

    def _read(self) -> None:
        reader = self._reader
        if reader is None or reader.held:
            return
        if reader.turn():
            self._loop.call_soon(self._guard, self._read)
        if not self.open:
            return
        self._events.turn()
        if self.client.want_write():  # what paho's callbacks had it write is only queued
            self.client.loop_write()
        self._watch_writer()

    def _confirmed(self, mid: int, refusal: str) -> None:
        self._identifiers.back(mid)
        self._events.confirmed(mid, refusal)

    def _hand(self, came: Arrival) -> None:
        try:
            self._events.message(came)
        except Exception:  # noqa: BLE001  logged and counted; the next message is not to suffer
            _log.exception("a message could not be taken")
            self._events.bug()
            if came.qos:
                self.acknowledge(came.mid)

    def _flush_soon(self) -> None:
        """What this turn of the loop still publishes goes out with it."""
        self._loop.call_soon(self._guard, self._write)

    def _write(self) -> None:
        stream = self._stream
        if stream is None:
            return
        before = stream.unsent
        stream.flush()
        self._stuck = stream.unsent > 0
        if not self._stuck or stream.unsent < before:
            self._moved_s = time.monotonic()
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
        self._guard(self._misc)
        self._watch_writer()

    def _misc(self) -> None:
        idle_s = time.monotonic() - self._moved_s
        if self._stuck and idle_s > 2 * self.client.keepalive:
            # It may be sending all the while, and each message would wait here for its acknowledgement to leave.
            self.close(f"the broker has taken nothing for {idle_s:.0f} s")
            return
        if self._reader is not None:
            self._reader.vouch()
        self.client.loop_misc()

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
        fd, self._fd, self._stream = self._fd, -1, None
        self._hold(held=True)
        self._reader = None
        if fd >= 0:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            self._writing = False

    # --- paho's callbacks: each only notes or hands on, and none may raise ----------------------------

    def _on_connect(
        self, _client: Client, _data: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if self.greeting is not None:
            self._loop.call_soon(self.close, "a second CONNACK")  # not inside paho's callback
            return
        if reason.is_failure:
            self.refusal = str(reason)
            self.unsupported = reason.value == _UNSUPPORTED
            return
        said = greeting(self.number, self.version, properties, session_present=bool(flags.session_present))
        self.greeting = said
        self._safely(partial(self._greeted, said))

    def _on_disconnect(self, _client: Client, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if self._over:
            return
        broken = self._read_last.broken if self._read_last is not None else None
        self.end = of_reason(reason.value, broken, by_broker=flags.is_disconnect_packet_from_server)
        # In the dialling thread when CONNECT could not be written; then there is nothing to tell yet.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._finish, self.refusal or str(reason))

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        self._safely(
            partial(self._events.subscribed, mid, [str(reason) if reason.is_failure else "" for reason in reasons])
        )

    def _safely(self, call: Callable[[], None]) -> None:
        """What is raised here is our own fault, where all else that paho raises is the broker's."""
        try:
            call()
        except Exception:  # noqa: BLE001  logged, counted, and the connection ends
            _log.exception("what the broker said could not be taken")
            self._loop.call_soon(self._fail)

    def _on_socket_close(self, _client: Client, _data: Any, _sock: Any) -> None:
        self._unwatch()
