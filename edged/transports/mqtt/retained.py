"""A broker's retained messages, by their names: what is kept there, and what shall be. Blocking, for commands.

A PUBACK is not believed: Mosquitto's `message_size_limit` and its ACL swallow a message behind one (3.1.1), so
whoever puts something there looks for it afterwards. What must be complete is not asked for by wildcard: past a
client's queue brokers leave messages out without a word (measured: 1020 of 3200 came).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edged.config import schema
from edged.errors import EdgedError
from edged.transports.mqtt.caller import Caller
from edged.transports.mqtt.packets import Greeting, fresh
from edged.transports.mqtt.visit import Visit

TOGETHER: Final = 8  # topics in one SUBSCRIBE: AWS IoT takes no more; EMQX's free plan has 10 a client
OVERHEAD: Final = 64  # of a PUBLISH besides topic and payload: header, packet identifier, expiry
_SUBSCRIBED_S: Final = 10.0
_SETTLE_S: Final = 0.5  # retained messages follow the SUBACK at once; this is for a slow link
_CONFIRMED_S: Final = 60.0
_WINDOW: Final = 20  # unconfirmed messages, and bytes of them
_WINDOW_BYTES: Final = 4 * 2**20


class Heard(msgspec.Struct, frozen=True):
    """A message as it came. `left_s`: how long the broker keeps it; None: without an end, or 3.1.1, which has none."""

    topic: str
    payload: bytes
    retained: bool
    left_s: int | None = None


class Put(msgspec.Struct, frozen=True):
    """What shall be there. `expires_s`: for how long, 0 for ever; only MQTT 5 can say so."""

    topic: str
    payload: bytes
    retain: bool = True
    expires_s: int = 0


class Lost(EdgedError):
    """The connection ended. What was under way may be there or not."""

    def __init__(self, under_way: Sequence[Put] = ()) -> None:
        largest = max((len(one.payload) for one in under_way), default=0)
        sent = f" while it was sent messages of up to {largest} bytes" if under_way else ""
        super().__init__("broker", f"the broker ended the connection{sent}", "See the broker's log.")
        self.under_way: Final = tuple(under_way)


class Retained:
    """One connection at a time, clean session. `hear` gets every message that comes, whoever asked for it."""

    def __init__(
        self, settings: schema.Mqtt, client_id: str, hear: Callable[[Heard], None], *, rate: float = 0
    ) -> None:
        """`rate`: at most so many messages a second are sent, 0 for no limit of ours (EMQX's free plan has 10)."""
        self._caller: Final = Caller(settings, client_id, self._take)
        self._hear: Final = hear
        self._pause_s: Final = 1 / rate if rate else 0.0
        self._next_s = 0.0
        self._visit: Visit | None = None
        self._kept: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> Greeting:
        """Raises EdgedError `broker`."""
        self.close()
        self._visit, greeting = self._caller.call()
        return greeting

    def close(self) -> None:
        """Says goodbye and closes."""
        visit, self._visit = self._visit, None
        if visit is not None:
            visit.close()

    def turn(self, limit_s: float = 0.1) -> None:
        """Reads and writes for a moment. Raises Lost."""
        if not self._open.turn(limit_s):
            raise Lost

    def listen(self, filters: Sequence[str], *, qos: int = 1, settle_s: float = _SETTLE_S) -> None:
        """From now on `hear` gets what comes there, and first what is retained. Raises Lost, EdgedError `forbidden`.

        `settle_s`: for how long it waits for that; no broker says when it has all come.
        """
        self._subscribe(filters, qos)
        settled_s = time.monotonic() + settle_s
        while time.monotonic() < settled_s:
            self.turn()

    def look(self, topics: Sequence[str], fence: str = "", *, grace_s: float = 0.05) -> bool:
        """Has what is retained under these names sent to `hear`; returns when nothing more is to be expected.

        MQTT has no word for "nothing is there". So `fence`, the name of something that is there, is asked for last:
        once it came the rest came too, or does within `grace_s` (brokers that send what they keep out of turn).
        Without a fence half a second has to do. False when the fence is not there any more. Raises Lost, EdgedError
        `forbidden`.
        """
        size = TOGETHER - bool(fence)
        for start in range(0, max(len(topics), bool(fence)), size):
            asked = [topic for topic in topics[start : start + size] if topic != fence]
            batch = [*asked, fence] if fence else asked
            self._kept.difference_update(batch)
            self._subscribe(batch, 0)
            self._settle(set(asked), fence, grace_s)
            self._open.unsubscribe(batch)
            if fence and fence not in self._kept:
                return False
        return True

    def put(self, messages: Iterable[Put], confirmed: Callable[[Put, str], None]) -> None:
        """Publishes them at QoS 1, several under way at a time; `confirmed` gets each with the broker's refusal, or "".

        Raises Lost, EdgedError `broker` when the broker falls silent.
        """
        visit, under_way, size = self._open, dict[int, Put](), 0
        window = min(_WINDOW, visit.greeting.receive_maximum if visit.greeting else _WINDOW)
        waiting = iter(messages)
        ahead = next(waiting, None)
        silent_s = time.monotonic()
        while ahead is not None or under_way:
            if ahead is not None and len(under_way) < window and size < _WINDOW_BYTES and self._may_send():
                under_way[visit.publish(ahead.topic, ahead.payload, _expiry(visit, ahead), retain=ahead.retain)] = ahead
                size += len(ahead.payload)
                ahead = next(waiting, None)
                continue
            if not visit.turn(self._patience_s()):
                raise Lost(tuple(under_way.values()))
            for mid in [mid for mid in under_way if mid in visit.confirmed]:
                reason, one = visit.confirmed.pop(mid), under_way.pop(mid)
                size -= len(one.payload)
                confirmed(one, str(reason) if reason.is_failure else "")
                silent_s = time.monotonic()
            if visit.writing or not under_way:
                silent_s = time.monotonic()
            elif time.monotonic() - silent_s > _CONFIRMED_S:
                raise EdgedError("broker", f"the broker confirmed nothing for {_CONFIRMED_S:g} s", "Look at its log.")

    # --- inside -------------------------------------------------------------------------------------

    @property
    def _open(self) -> Visit:
        if self._visit is None:
            raise Lost
        return self._visit

    def _subscribe(self, filters: Sequence[str], qos: int) -> None:
        said = self._open.subscribe(filters, _SUBSCRIBED_S, qos=qos)
        if said is None:
            raise Lost
        refused = [one for one, reason in zip(filters, said, strict=False) if reason.is_failure]
        if refused:
            raise EdgedError("forbidden", f"the broker does not let this user read {refused[0]}", "Change its ACL.")

    def _settle(self, asked: set[str], fence: str, grace_s: float) -> None:
        until_s = time.monotonic() + (_SUBSCRIBED_S if fence else max(_SETTLE_S, grace_s))
        fenced = not fence
        while not (asked <= self._kept and fenced) and time.monotonic() < until_s:
            self.turn(max(0.001, min(0.1, until_s - time.monotonic())))
            if not fenced and fence in self._kept:
                fenced, until_s = True, time.monotonic() + grace_s

    def _may_send(self) -> bool:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = max(self._next_s, now_s - self._pause_s) + self._pause_s
        return True

    def _patience_s(self) -> float:
        wait_s = self._next_s - time.monotonic()
        return min(0.1, wait_s) if wait_s > 0 else 0.1

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001  a callback
        if retained:
            self._kept.add(topic)
        self._hear(Heard(topic, payload, retained, self._open.left_s))


def _expiry(visit: Visit, one: Put) -> Properties | None:
    if not one.expires_s or visit.version != "5":
        return None
    made: Any = fresh(PacketTypes.PUBLISH)
    made.MessageExpiryInterval = one.expires_s
    found: Properties = made
    return found
