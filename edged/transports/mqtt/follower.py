"""A connection in a thread of its own: where the data connection is, once that was greeted, or at brokers of its own.

paho is called in the thread alone. What the connection is for is its duty's to know.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from paho.mqtt.client import Client
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edged.config.addresses import Broker
from edged.transports.mqtt.backoff import Backoff
from edged.transports.mqtt.brokers import Brokers
from edged.transports.mqtt.dialer import NO_CONNACK, Dialer, explain
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.packets import Greeting, greeting
from edged.transports.mqtt.stream import Excessive, StreamingClient
from edged.transports.mqtt.talk import Talk
from edged.transports.mqtt.versions import Ending, Version, Versions

_log = logging.getLogger(__name__)
_SILENCE_S: Final = 5.0
_SETTLED_S: Final = 5.0
_TURN_S: Final = 0.25  # how soon the thread notices that it is to end
_UNSUPPORTED: Final = 0x84


class Duty(Protocol):
    """What the connection is for. Everything is called in the thread."""

    def up(self, client: Client, said: Greeting) -> None:
        """The broker has greeted us: nothing is subscribed to yet."""

    def turn(self) -> None:
        """Something was read, or `nudge` was called, or some time has passed."""

    def message(self, came: Arrival) -> None:
        """A message has come; the next one is read when this returns."""

    def answered(self, mid: int, reasons: Sequence[ReasonCode]) -> None:
        """The SUBACK to the SUBSCRIBE with this packet identifier."""

    def leaving(self, client: Client) -> None:
        """We are about to say goodbye: the connection ends on purpose, and not soon to come again here."""

    def down(self) -> bool:
        """The connection has ended. Whether it was of use: then the next one comes soon, however short its life."""


class Follower:
    """`in_loop` and `tell` are the thread's, everything else that is public the loop's.

    With brokers of its `own`, those of the dialer in their order (brokers.py), it takes `start` instead of `follow`.
    """

    def __init__(self, dialer: Dialer, duty: Duty, what: str, *, own: bool = False) -> None:
        self._dialer = dialer
        self._own = Brokers(dialer.brokers, dialer.settings.version) if own else None
        self._going = False  # to one of its own
        self._look_s = 0.0  # when those before the one that serves are looked for
        self._duty = duty
        self._what = what  # of the journal's lines
        self._renew = False
        self._target: Broker | None = None  # written in the loop, read in the thread, as is the next
        self._held = False
        self._preferred: Version | None = None
        self._versions = {broker: Versions(dialer.settings.version) for broker in dialer.brokers}
        self._backoff = Backoff()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._bell = -1  # an eventfd
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._greeting: Greeting | None = None
        self._connected = self._unsupported = False
        self._refusal = self._broken = ""
        self.last_error = ""

    def follow(self, broker: Broker, version: Version) -> None:
        """Connects to this broker from now on, and to no other. The data connection was greeted in this version."""
        self._preferred = version
        self._target, self._held = broker, False
        self._begin()

    def start(self) -> None:
        """Connects to its own brokers from now on."""
        self._going = True
        self._begin()

    def _begin(self) -> None:
        self._wake.set()
        if self._thread is None and not self._stop.is_set():
            self._loop = asyncio.get_running_loop()
            self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._thread = threading.Thread(target=self._run, name="edged-mqtt-push", daemon=True)
            self._thread.start()

    def hold(self) -> None:
        """The data connection is away: what is under way here goes on, over another connection once if need be.

        A link that breaks each few seconds has the data connection wait for longer and longer; a fetch that gets on
        must not wait with it.
        """
        self._held = True

    def let_go(self) -> None:
        """The name is another machine's: its messages are not ours."""
        self._target, self._going = None, False
        self._wake.set()

    def renew(self, dialer: Dialer) -> None:
        """The next connection is `dialer`'s, and the present one ends."""
        self._dialer, self._renew = dialer, True

    def nudge(self) -> None:
        """The duty has something to do on the connection; no connection is dialled sooner by it."""
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    async def stop(self, limit_s: float = 2.0) -> None:
        self._stop.set()
        self._wake.set()
        self.nudge()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, limit_s)
            bell, self._bell = self._bell, -1
            if bell >= 0 and not self._thread.is_alive():
                os.close(bell)

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def url(self) -> str:
        """Of the broker that it is connected to, or tries; "" before there is one."""
        place = self._place()
        return "" if place is None else place.url

    def alive(self) -> bool:
        return self._stop.is_set() or self._thread is None or self._thread.is_alive()

    # --- in the thread ----------------------------------------------------------------------------

    def tell(self, function: Callable[..., None], *arguments: object) -> None:
        """Calls it in the loop, and does not wait for it."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(function, *arguments)

    def in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        """Calls it in the loop and waits for it, so that the next message is not read before."""
        taken = threading.Event()

        def call() -> None:
            try:
                function(*arguments)
            finally:
                taken.set()

        self.tell(call)
        while not taken.wait(_TURN_S) and not self._stop.is_set():
            pass

    def _place(self) -> Broker | None:
        """Where to connect to; None = nowhere."""
        if self._own is None:
            return self._target
        return self._own.current if self._going else None

    def _run(self) -> None:
        useful = False
        while True:
            self._wake.clear()  # before anything is looked at, so that no change is slept through
            if self._stop.is_set():
                return
            broker = self._place()
            if broker is None or (self._held and not useful):
                self._wake.wait()
                continue
            started_s = time.monotonic()
            versions = self._versions[broker]
            preferred, self._preferred = self._preferred, None
            if preferred is not None:
                versions.prefer(preferred)
            text, how, useful = self._connection(broker, versions)
            if self._stop.is_set() or broker != self._place():
                continue
            good = how is None and (useful or time.monotonic() - started_s > _SETTLED_S)
            if good:
                self._backoff.reset()
            at_once = how is not None and versions.failed(how)
            if self._own is not None and not at_once:
                at_once = self._next_one(self._own, good=good)
            delay_s = 0.0 if at_once else self._backoff.next_s()
            level = logging.WARNING if text != self.last_error else logging.DEBUG
            _log.log(level, "%s over %s: %s", self._what, broker.url, text)
            self.last_error = text
            self._wake.wait(delay_s)

    @staticmethod
    def _next_one(own: Brokers, *, good: bool) -> bool:
        """The next of its own brokers after a connection that ended; whether to dial it at once."""
        if good:
            own.lost()
            return False
        return own.failed()

    def _found(self) -> bool:
        """Whether a broker that comes before this one is there again; then it is the one to connect to."""
        if self._own is None or not self._own.better or time.monotonic() < self._look_s:
            return False
        self._look_s = time.monotonic() + self._own.look_s
        found = next((one for one in self._own.better if self._dialer.answers(one)), None)
        if found is not None:
            _log.info("%s takes connections again: %s go back to it", found.url, self._what)
            self._own.go_back(found)
        return found is not None

    def _connection(self, broker: Broker, versions: Versions) -> tuple[str, Ending | None, bool]:
        """One connection from dialling on: why it ended, how when no good CONNACK came, and whether it was of use."""
        self._renew = False
        client = self._client_of(versions.current)
        try:
            self._dialer.dial(client, versions.current, broker)
        except (OSError, ValueError) as error:
            return explain(error, broker), None, False
        silent = not self._serve(client, broker, versions)
        was_connected, self._connected = self._connected, False
        useful = was_connected and self._duty.down()
        if self._greeting is not None:
            return (
                "connecting anew, for other settings" if self._renew else f"the connection was lost{self._broken}",
                None,
                useful,
            )
        if self._unsupported:
            return f"the broker does not speak MQTT {versions.current}", Ending.UNSUPPORTED, False
        if self._refusal:
            versions.worked()
            return f"the broker refused the connection: {self._refusal}", None, False
        if silent:
            return f"no CONNACK within {_SILENCE_S:.0f} s", Ending.SILENT, False
        return NO_CONNACK, Ending.CLOSED, False

    def _client_of(self, version: Version) -> StreamingClient:
        client = self._dialer.client(version)
        client.on_connect = partial(self._on_connect, version)
        client.on_subscribe = lambda _client, _data, mid, reasons, _properties: self._duty.answered(mid, reasons)
        self._greeting, self._unsupported = None, False
        self._refusal = self._broken = ""
        return client

    def _serve(self, client: StreamingClient, broker: Broker, versions: Versions) -> bool:
        """Runs the connection until it ends or another is wanted; False when the broker said nothing at all."""
        deadline_s = time.monotonic() + _SILENCE_S
        self._look_s = time.monotonic() + (0.0 if self._own is None else self._own.look_s)
        moving = False
        talk = Talk(client, versions.current, self._dialer.packet_limit, self._duty.message)
        while not self._stop.is_set() and not self._renew and self._place() == broker:
            try:
                if not talk.turn(_TURN_S, self._bell):
                    return True
                if self._greeting is not None and not self._connected:
                    self._connected = True
                    versions.worked()
                    self._duty.up(client, self._greeting)
                if self._connected:
                    self._duty.turn()
                    moving = self._found()
            except (MalformedPacket, Excessive, OSError) as error:
                self._broken = f": {error}"
                client.connect_async("closed")
                return True
            except Exception:  # noqa: BLE001  no byte of a broker may end the thread; logged, dialled again
                _log.exception("the connection for %s failed on what the broker sent", self._what)
                client.connect_async("closed")
                return True
            if self._greeting is None and time.monotonic() > deadline_s:
                client.connect_async("closed")  # the documented way to drop a connection at once
                return False
        if self._connected and (moving or self._stop.is_set()):
            self._duty.leaving(client)
        client.disconnect()
        return True

    def _on_connect(
        self,
        version: Version,
        _client: Client,
        _data: Any,
        flags: Any,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._unsupported = reason.value == _UNSUPPORTED
        self._refusal = str(reason) if reason.is_failure else ""
        if not reason.is_failure:
            self._greeting = greeting(0, version, properties, session_present=bool(flags.session_present))
