"""The data connection's life: dial, greet, serve, and after a loss dial again (RULES 17).

Dialling blocks, so a thread of its own does it and hands the client over; until then nobody else
touches it. There is always a connection, an attempt or a scheduled attempt, until `stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from edged.config.addresses import Broker
from edged.transports.mqtt.backoff import Backoff
from edged.transports.mqtt.brokers import Brokers
from edged.transports.mqtt.dialer import NO_CONNACK, Dialer, explain
from edged.transports.mqtt.ends import End
from edged.transports.mqtt.lookout import Lookout, Unreached
from edged.transports.mqtt.packets import Greeting
from edged.transports.mqtt.scout import Scout
from edged.transports.mqtt.versions import Ending, Version
from edged.transports.mqtt.wire import Events, Wire

_log = logging.getLogger(__name__)
_SILENCE_S: Final = 5.0  # without a CONNACK
_SETTLED_S: Final = 5.0  # a connection that lived so long was a good one
_EVICTIONS: Final = 3
_EVICTED: Final = "does another device use the same mqtt.client_id? two with one id evict each other"

_ADVICE: Final = {"Retain not supported": "turn retained messages on (Mosquitto: retain_available true)"}


class Owner(Events, Protocol):
    """Who uses the connection."""

    def up(self, said: Greeting) -> None: ...
    def down(self, end: End) -> None: ...
    def leave(self) -> None: ...
    def waits(self) -> None: ...


class Link:
    """One connection at a time. `wire` is it while `broker` has greeted us, else None.

    Each attempt begins with the `lookout`. While the name is not free, `namesake` is the host that has it, and
    the owner is told that this box `waits`. It is told to `leave` when a broker that comes before this one is
    back, and does so with `leave`.
    """

    def __init__(
        self, dialer: Dialer, lookout: Lookout, owner: Owner, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._dialer = dialer
        self._lookout = lookout
        self._owner = owner
        self._clock = clock
        self._brokers = Brokers(dialer.brokers, dialer.settings.version)
        self._scout = Scout(dialer.answers, self._found)
        self._back_to: Broker | None = None
        self._anew = False  # the connection ends for the sake of another one
        self._said: dict[Broker, str] = {}  # what was wrong with each broker the last time
        self._backoff = Backoff()
        self._number = 0
        self._thread: threading.Thread | None = None
        self._attempt: Wire | None = None
        self._timer: asyncio.TimerHandle | None = None  # the next attempt, or the end of the wait for a CONNACK
        self._due_s = 0.0
        self._up_s = 0.0
        self._silent = False
        self._short_lives = 0
        self._stopped = True
        self._end = asyncio.Event()
        self.wire: Wire | None = None
        self.broker = self._brokers.current
        self.connects = 0
        self.last_error = ""
        self.namesake = ""
        self.since_ms = round(time.time() * 1000)

    def start(self) -> None:
        """Returns at once, with the first attempt under way."""
        self._stopped = False
        self._dial()

    async def stop(self, limit_s: float = 2.0) -> None:
        """Says goodbye and closes. A dialling thread is waited for, within the limit."""
        self._stopped = True
        self._cancel()
        self._scout.rest()
        self._lookout.end()
        until_s = self._clock() + limit_s
        await self._part(limit_s)
        if self._attempt is not None:
            self._attempt.close("stopped")
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, max(0.0, until_s - self._clock()))

    async def leave(self, limit_s: float = 2.0) -> None:
        """Says goodbye to this broker, to dial the one that was found."""
        wire = self.wire
        await self._part(limit_s)
        if wire is not None and wire is self.wire:
            wire.close("the broker did not take the goodbye")

    def give_way(self) -> None:
        """Leaves the name to another machine: no `offline`, as that one is online; the next attempt waits for it."""
        if self.wire is not None:
            self.wire.goodbye()

    async def _part(self, limit_s: float) -> None:
        if self.wire is not None:
            self.wire.goodbye()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), limit_s)

    def redial(self, dialer: Dialer) -> None:
        """The next connection is `dialer`'s, and the present one ends, with its session kept."""
        self._dialer = dialer
        if self.wire is not None:
            self._anew = True
            self.wire.goodbye()

    def alive(self) -> bool:
        """Whether MQTT is served, or a connect is under way or scheduled (RULES 8)."""
        if self._stopped:
            return True
        if self.wire is not None:
            return self.wire.alive()
        if self._timer is not None:
            return self._clock() - self._due_s < _SILENCE_S
        return self._thread is not None and self._thread.is_alive()

    @property
    def version(self) -> Version:
        return self._brokers.versions.current

    # --- an attempt -------------------------------------------------------------------------------

    def _dial(self) -> None:
        self._timer = None
        self._silent = False
        self._number += 1
        self.broker = self._brokers.current
        version = self.version
        client = self._dialer.client(version)
        most = self._dialer.packet_limit
        wire = Wire(client, self._number, version, self._owner, most, greeted=self._greeted, ended=self._ended)
        # Not the loop's executor: it may be full of other work, and a name lookup may take a minute.
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._dial_in_thread, args=(wire, self.broker, loop), name="edged-mqtt-dial", daemon=True
        )
        self._thread.start()

    def _dial_in_thread(self, wire: Wire, broker: Broker, loop: asyncio.AbstractEventLoop) -> None:
        error: Exception | None = None
        try:
            self._lookout.wait(broker, wire.version, lambda host: self._call(loop, self._waits, wire, host))
            self._dialer.dial(wire.client, wire.version, broker)
        except Exception as problem:  # noqa: BLE001  handed to the loop, which raises what is not the network's
            error = problem
        self._call(loop, self._dialled, wire, error)

    @staticmethod
    def _call(loop: asyncio.AbstractEventLoop, step: Callable[..., None], *arguments: object) -> None:
        try:
            loop.call_soon_threadsafe(step, *arguments)
        except RuntimeError:
            _log.debug("the loop ended while a connection was being made")

    def _waits(self, wire: Wire, host: str) -> None:
        if self._stopped or wire.number != self._number:
            return
        self.namesake = host
        self.last_error = (
            f"another machine is online as {self._lookout.name} ({host}): this one waits until it is not; "
            "give one of the two another `device`"
        )
        _log.warning("MQTT at %s: %s", self.broker.url, self.last_error)
        self._owner.waits()

    def _dialled(self, wire: Wire, error: Exception | None) -> None:
        self.namesake = ""
        if self._stopped:
            wire.close("stopped")
        elif isinstance(error, Unreached):
            self._retry(str(error), error.how)
        elif isinstance(error, OSError | ValueError):
            self._retry(explain(error, self.broker))
        elif error is not None:
            raise error
        elif not wire.attach():
            self._retry(NO_CONNACK, Ending.CLOSED)
        else:
            self._attempt = wire
            self._schedule(_SILENCE_S, self._no_answer)

    def _no_answer(self) -> None:
        self._timer = None
        self._silent = True
        if self._attempt is not None:
            self._attempt.close(f"no CONNACK within {_SILENCE_S:.0f} s")

    def _greeted(self, said: Greeting) -> None:
        self._cancel()
        self._brokers.versions.worked()
        self.wire = self._attempt
        self._end.clear()
        self.connects += 1
        self._up_s = self._clock()
        self.since_ms = round(time.time() * 1000)
        _log.info("connected to %s with MQTT %s", self.broker.url, said.version)
        if better := self._brokers.better:
            self._scout.watch(better, self._brokers.look_s)
        # Not from inside paho's callback: it walks its own messages after it.
        asyncio.get_running_loop().call_soon(self._announce, said)

    def _announce(self, said: Greeting) -> None:
        if self.wire is not None and self.wire.number == said.number:
            self._owner.up(said)

    # --- its end ----------------------------------------------------------------------------------

    def _ended(self, wire: Wire, reason: str) -> None:
        if wire is not self._attempt:
            return
        self._attempt = None
        self._cancel()
        if self.wire is not None:
            self._lost(reason, wire.end)
        elif wire.unsupported:
            self._retry(f"the broker does not speak MQTT {wire.version}", Ending.UNSUPPORTED)
        elif wire.refusal:
            self._brokers.versions.worked()
            advice = _ADVICE.get(wire.refusal, "check username, password and client_id")
            self._retry(f"the broker refused the connection: {wire.refusal}; {advice}")
        elif self._silent:
            self._retry(reason, Ending.SILENT)
        else:
            self._retry(NO_CONNACK, Ending.CLOSED)

    def _lost(self, reason: str, end: End) -> None:
        self.wire = None
        self._end.set()
        self.since_ms = round(time.time() * 1000)
        self._scout.rest()
        short = self._clock() - self._up_s < _SETTLED_S
        back_to, self._back_to = self._back_to, None
        anew, self._anew = self._anew or back_to is not None, False
        self._short_lives = self._short_lives + 1 if short and not anew else 0
        self._said.clear()  # a new loss is news, whatever the last one was
        self._owner.down(end)
        if back_to is not None:
            self._brokers.go_back(back_to)
        if anew:
            if not self._stopped:
                self._schedule(0.0, self._dial)
            return
        if not short:
            self._backoff.reset()
            self._brokers.lost()
        hint = f"; {_EVICTED}" if self._short_lives >= _EVICTIONS else ""
        self._pause(f"the connection was lost: {reason}{hint}", at_once=short and self._brokers.failed())

    def _found(self, broker: Broker) -> None:
        """The scout has seen a broker that comes before the one that serves."""
        _log.info("%s takes connections again: going back to it from %s", broker.url, self.broker.url)
        self._back_to = broker
        self._owner.leave()

    def _retry(self, text: str, how: Ending | None = None) -> None:
        """After an attempt that failed: the same broker with another version, the next one, or a pause."""
        other_version = how is not None and self._brokers.versions.failed(how)
        self._pause(text, at_once=other_version or self._brokers.failed())

    def _pause(self, text: str, *, at_once: bool) -> None:
        if self._stopped:
            return
        delay_s = 0.0 if at_once else self._backoff.next_s()
        # Once per change: an absent broker must not fill the journal.
        level = logging.WARNING if text != self._said.get(self.broker) else logging.DEBUG
        then = f"next attempt in {delay_s:.1f} s, at {self._brokers.current.url}"
        _log.log(level, "MQTT at %s: %s; %s", self.broker.url, text, then)
        self._said[self.broker] = self.last_error = text
        self._schedule(delay_s, self._dial)

    def _schedule(self, delay_s: float, step: Callable[[], None]) -> None:
        self._due_s = self._clock() + delay_s
        self._timer = asyncio.get_running_loop().call_later(delay_s, step)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
