"""What leaves at QoS 1: retained states and results, in memory, bounded, with a window of unconfirmed ones. No I/O.

States go before results. Results keep their order, through a lost connection too: what was not
confirmed goes to the head again (so a receiver may see it twice). Those that lie on the disk (backlog.py) come out
beside them, at their own rate. paho's own queue is never used:
one message that the broker will not have makes paho reconnect for ever (measured). Here messages go
one at a time after a loss, until those that were under way are confirmed; one over which the broker closes
connections, alone, is given up, and whoever made it is told. That takes evidence, as a bad link ends connections too:
the broker has closed, soon after it was sent, three times where it had confirmed others on the same connection, six
times where it had not; or once, saying what it has against it. What that teaches is kept: a large one that size is the
matter (3.1.1 has no other way to learn a broker's limit), a small one that the topic is, for a minute, and each time
that the topic ends another connection twice as long, up to an hour.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from edged.transports.mqtt.clocks import boot_s
from edged.transports.mqtt.ends import End

MAX_PACKET: Final = 268_435_455  # MQTT 5, 1.5.5: the largest remaining length
# Unconfirmed messages at a time, unless the broker's Receive Maximum is less.
WINDOW: Final = 64
# Some brokers (Mosquitto 2.0.11 among them, measured) send inputs without waiting for acknowledgements, so a
# burst of them waits here as results: 32 MiB hold 25,000 small ones.
_BYTES: Final = 32 * 2**20
_OVERHEAD: Final = 896  # what a waiting message costs beside its packet
_GUILTY: Final = 6
_SOON_S: Final = 5.0  # after it was sent, and
_SLOWEST: Final = 16 * 1024  # so many bytes a second reach the broker at least
_LARGE: Final = 32 * 1024  # no broker's limit is below
_SHUNNED_S: Final = 60.0
_SHUNNED_MOST_S: Final = 3600.0
_REFUSALS: Final = frozenset({"output_too_large", "refused_by_broker"})


class Publication(msgspec.Struct, eq=False):
    """One message to publish. The fields after `retain` are MQTT 5's and are left out on 3.1.1.

    `handed` is called once, when the connection has the message, or it is safe on the disk or dropped. From
    `expires_s` on nobody wants it any more, by the clock that goes on while the machine sleeps (clocks.boot_s).
    `serial` is its number on the disk, 0 when it is not there. `refused(code, why)` is called when the broker does
    not take it, by `output_too_large` or `refused_by_broker`, and counts it.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    content_type: str = ""
    correlation: bytes | None = None
    status: str = ""
    handed: Callable[[], None] | None = None
    expires_s: float | None = None
    serial: int = 0
    refused: Callable[[str, str], None] | None = None

    @property
    def size(self) -> int:
        """An upper bound of the packet's bytes: a sender chose up to 64 KiB each of its topic and correlation data."""
        names = 4 * len(self.topic) + len(self.content_type) + len(self.status)
        return len(self.payload) + names + len(self.correlation or b"") + 64


class Older(Protocol):
    """Messages from before, that come out beside the new ones at a pace of their own (backlog.py)."""

    def next(self) -> Publication | None:
        """One whose turn it is."""

    def put_back(self, message: Publication) -> None:
        """It could not go now."""

    def done(self, message: Publication) -> None:
        """The broker has it, or it was given up; told of every message."""

    def lost(self) -> None:
        """The connection ended: what was handed out and is not done will be asked for again."""


class Outbox:
    """`dropped` is told the reason of each message that is given up. `clock` is the one that messages expire by."""

    def __init__(
        self,
        dropped: Callable[[str], None],
        last: str = "",
        clock: Callable[[], float] = boot_s,
        older: Older | None = None,
    ) -> None:
        self._older = older
        self._dropped = dropped
        self._clock = clock
        self._last = last  # the state that is published after all others: `online`
        self._states: dict[str, bytes] = {}
        self._dirty: dict[str, None] = {}
        self._queue: deque[Publication] = deque()
        self._bytes = 0
        self._flight: dict[int, Publication] = {}
        self._window = 0
        self._told_limit = self._learnt_limit = MAX_PACKET
        self._shunned: dict[str, tuple[float, float]] = {}  # until when, and for how long that is
        self._careful = 0  # so many confirmations until more than one may be under way
        self._accused: object = None
        self._guilt = 0
        self._sent_s = 0.0
        self._proved = False  # on this connection the broker has confirmed something

    def __len__(self) -> int:
        """Messages that are not confirmed yet, states and results."""
        return len(self._queue) + len(self._flight) + len(self._dirty)

    def retain(self, topic: str, payload: bytes) -> None:
        """Sets a retained state: published now or at the next connect, and again at each one after it."""
        self._states[topic] = payload
        self._dirty[topic] = None

    def full(self, message: Publication) -> bool:
        """Whether `put` would drop older ones for it."""
        return bool(self._queue) and self._bytes + message.size + _OVERHEAD > _BYTES

    def trusts(self, message: Publication) -> bool:
        """Whether nothing speaks for it that it ends the connection."""
        return not self._careful and not self._is_shunned(message.topic)

    @property
    def here(self) -> int:
        """Those that are in memory alone: not counted on the disk."""
        return len(self) - sum(1 for message in self._flight.values() if message.serial)

    def waiting(self) -> list[Publication]:
        """What is neither confirmed nor on the disk, in order; after `lost`. Without states."""
        return list(self._queue)

    def put(self, message: Publication) -> None:
        """Queues a message; past 32 MiB the oldest ones are dropped."""
        self._queue.append(message)
        self._bytes += message.size + _OVERHEAD
        while self._bytes > _BYTES and len(self._queue) > 1:
            self._give_up(self._take(), "outbox_full")

    def opened(self, receive_maximum: int, packet_limit: int) -> None:
        """A connection is up: every state is due again."""
        self._window = min(WINDOW, receive_maximum)
        self._proved = False
        self._told_limit = packet_limit
        self._dirty = dict.fromkeys(topic for topic in self._states if topic != self._last)
        if self._last in self._states:
            self._dirty[self._last] = None

    def next(self) -> Publication | None:
        """The message to hand to paho now, None when nothing may go."""
        while len(self._flight) < (min(1, self._window) if self._careful else self._window):
            if self._dirty:
                topic = next(iter(self._dirty))
                del self._dirty[topic]
                message = Publication(topic, self._states[topic], qos=1, retain=True)
            elif self._older is not None and (old := self._older.next()) is not None:
                message = old
            elif self._queue:
                message = self._take()
            else:
                return None
            if message.expires_s is not None and message.expires_s <= self._clock():
                self._give_up(message, "expired")
            elif message.size > self.packet_limit:
                self._give_up(message, "output_too_large")
            elif self._is_shunned(message.topic):
                self._give_up(message, "refused_by_broker")
            else:
                return message
        return None

    @property
    def packet_limit(self) -> int:
        """The largest packet in bytes that the broker takes: told in its CONNACK or learnt the hard way."""
        return min(self._told_limit, self._learnt_limit)

    def sent(self, mid: int, message: Publication) -> None:
        """paho has it under this packet identifier."""
        self._flight[mid] = message
        self._sent_s = self._clock()
        hand(message)

    def put_back(self, message: Publication) -> None:
        """paho would not have it now."""
        if self._is_state(message):
            self._dirty.setdefault(message.topic)
        elif message.serial and self._older is not None:
            self._older.put_back(message)
        else:
            self._queue.appendleft(message)
            self._bytes += message.size + _OVERHEAD

    def confirmed(self, mid: int, refusal: str = "") -> None:
        """The broker has answered, with its `refusal` if it is one. A packet identifier that is not ours is nothing."""
        message = self._flight.pop(mid, None)
        if message is None:
            return
        self._proved = True
        if self._accused is not None and self._accused == self._who(message):
            self._accused, self._guilt = None, 0
        if refusal:
            self._refuse(message, "refused_by_broker", refusal)
        elif self._shunned:
            self._shunned.pop(message.topic, None)
        self._careful = max(0, self._careful - 1)
        if self._older is not None:
            self._older.done(message)

    def _refuse(self, message: Publication, code: str, why: str) -> None:
        refused, message.refused = message.refused, None
        if refused is None:
            self._dropped(code)
        else:
            refused(code, why)

    def lost(self, end: End = End.AWAY) -> None:
        """The connection ended: what is not confirmed will go again, and whatever went alone may be the reason."""
        flight, self._flight, self._window = list(self._flight.values()), {}, 0
        if self._careful and flight and self._accuse(flight[0], end):
            poison = flight.pop(0)
            self._learn(poison)
            why = f"{poison.size} bytes end the connection" if poison.size > _LARGE else "it ends the connection"
            self._give_up(poison, "refused_by_broker", why)
        # States go again too, and before results: they count as under way.
        self._careful = max(self._careful, len(self._states) + len(flight)) if flight else self._careful
        for message in reversed(flight):
            if not message.serial:
                self.put_back(message)
        if self._older is not None:
            self._older.lost()

    def _accuse(self, message: Publication, end: End) -> bool:
        """Whether there is evidence enough that `message` ends connections. A link that fails is none."""
        if end is End.AWAY or self._clock() - self._sent_s > _SOON_S + message.size / _SLOWEST:
            return False
        who = self._who(message)
        weight = _GUILTY if end is End.NAMED else 2 if self._proved else 1
        self._guilt = self._guilt + weight if who == self._accused else weight
        self._accused = who
        return self._guilt >= (1 if message.topic in self._shunned else _GUILTY)

    def _who(self, message: Publication) -> object:
        """What it is known by beyond a connection: a state is made anew each time."""
        return message.topic if self._is_state(message) else message.serial or message

    def _is_state(self, message: Publication) -> bool:
        return message.retain and message.topic in self._states

    def _learn(self, message: Publication) -> None:
        if message.size > _LARGE:
            self._learnt_limit = min(self._learnt_limit, message.size - 1)
        else:
            now_s = self._clock()
            _, for_s = self._shunned.get(message.topic, (0.0, _SHUNNED_S / 2))
            for_s = min(2 * for_s, _SHUNNED_MOST_S)
            self._shunned = {
                topic: entry for topic, entry in self._shunned.items() if entry[0] > now_s - _SHUNNED_MOST_S
            }
            self._shunned[message.topic] = (now_s + for_s, for_s)

    def _is_shunned(self, topic: str) -> bool:
        return bool(self._shunned) and self._shunned.get(topic, (0.0, 0.0))[0] > self._clock()

    def _take(self) -> Publication:
        message = self._queue.popleft()
        self._bytes -= message.size + _OVERHEAD
        return message

    def _give_up(self, message: Publication, reason: str, why: str = "") -> None:
        if reason in _REFUSALS:
            self._refuse(message, reason, why)
        else:
            self._dropped(reason)
        hand(message)
        if self._older is not None:
            self._older.done(message)


def hand(message: Publication) -> None:
    """It is safe, or gone: whoever waits for that hears it, once."""
    handed, message.handed = message.handed, None
    if handed is not None:
        handed()
