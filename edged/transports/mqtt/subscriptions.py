"""What to subscribe to and in which order, and what the broker said to it. No I/O.

Own topics go first. A foreign filter goes alone and only after the answer to the one before, because
some brokers answer a forbidden filter by closing the connection: then it is known which one it was.
A filter that did so twice in a row is left out for ten minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from edged.topics import SHARED

T = TypeVar("T")
OWN: Final = 1  # the subscription identifier of edged's own topics
_FILTERS_AT_ONCE: Final = 8  # AWS IoT Core's limit for one SUBSCRIBE
_STRIKES: Final = 2
_QUARANTINE_S: Final = 600.0


class Subscription(msgspec.Struct, frozen=True):
    """`identifier` (MQTT 5, 3.8.2.1.2) comes back with each copy of a message; 0 = not asked for.

    It is asked for only where filters overlap, to tell one message's copies apart.
    """

    filter: str
    qos: int
    identifier: int = 0


def covers(wide: str, narrow: str) -> bool:
    """Whether `wide` matches every topic that `narrow` matches (MQTT 5, 4.7)."""
    if narrow.startswith("$") and wide[0] in "+#":
        return False
    theirs = narrow.split("/")
    for index, level in enumerate(wide.split("/")):
        if level == "#":
            return True
        if index >= len(theirs) or theirs[index] == "#" or level not in ("+", theirs[index]):
            return False
    return len(theirs) == wide.count("/") + 1


def overlap(one: str, other: str) -> bool:
    """Whether some topic matches both filters, whoever else gets a part of it."""
    mine, theirs = _topic(one).split("/"), _topic(other).split("/")
    for index in range(max(len(mine), len(theirs))):
        a = mine[index] if index < len(mine) else None
        b = theirs[index] if index < len(theirs) else None
        if "#" in (a, b):
            return True
        if a is None or b is None or (a != b and "+" not in (a, b)):
            return False
    return True


def _topic(wire: str) -> str:
    """The filter itself: `$share/group/a/+` is about a/+ (MQTT 5, 4.8.2)."""
    return wire.split("/", 2)[2] if wire.startswith(SHARED) else wire


def plan(own: Sequence[str], foreign: Iterable[tuple[str, int]]) -> tuple[Subscription, ...]:
    """Own topics (QoS 1), then foreign filters (filter, QoS) without those that a wider one covers.

    Brokers differ in how many copies of a message overlapping filters get (one to one each, measured).
    A covered filter is dispatched locally; a partial overlap gets identifiers.
    """
    wanted: dict[str, int] = {}
    for wire, qos in foreign:
        if not any(covers(mine, wire) for mine in own):
            wanted[wire] = max(qos, wanted.get(wire, 0))
    kept: dict[str, int] = {}
    for wire, qos in wanted.items():
        wider = [other for other in wanted if other != wire and covers(other, wire)]
        if not wider:
            kept[wire] = max([qos, *(wanted[other] for other in wanted if covers(wire, other))])
    every = [*own, *kept]
    clashing = {a for a in every for b in every if a != b and overlap(a, b)}
    own_identifier = OWN if clashing.intersection(own) else 0
    return (
        *(Subscription(wire, 1, own_identifier) for wire in own),
        *(
            Subscription(wire, qos, OWN + 1 + index if wire in clashing else 0)
            for index, (wire, qos) in enumerate(kept.items())
        ),
    )


class Subscriptions:
    """The way through a plan on each connection: `next` gives one SUBSCRIBE's worth at a time.

    Nothing else should be sent before `done`, or a connection that ends says nothing about a filter.
    """

    def __init__(
        self,
        own: Sequence[Subscription],
        foreign: Sequence[Subscription],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = _batches(own)
        self._foreign = [(one,) for one in foreign]
        self._clock = clock
        self._strikes: dict[tuple[Subscription, ...], int] = {}
        self._asked: tuple[Subscription, ...] | None = None
        self._left: list[tuple[Subscription, ...]] = []
        self._open = False
        self._shares = True
        self._quarantine: dict[tuple[Subscription, ...], float] = {}
        self.refused: set[str] = set()
        self._stale: dict[str, None] = {}  # a kept session may still have them
        self._due: dict[str, None] = {}  # and this connection is to be rid of these

    @property
    def quarantined(self) -> tuple[str, ...]:
        return tuple(batch[0].filter for batch in self._quarantine)

    @property
    def done(self) -> bool:
        return self._asked is None and not self._left

    def adopt(self, own: Sequence[Subscription], foreign: Sequence[Subscription]) -> None:
        """Another plan: what is new in it comes with `next`, what is not in it any more with `gone`."""
        before = {one for batch in (*self._own, *self._foreign) for one in batch}
        wanted = {one.filter for one in (*own, *foreign)}
        self._own, self._foreign = _batches(own), [(one,) for one in foreign]
        if self._open:
            left = {one for batch in self._left for one in batch}
            due = [one for one in own if one not in before or one in left]
            self._left = _batches(due) + [(one,) for one in foreign if one not in before or one in left]
            self._deny()
        self._quarantine = {batch: until_s for batch, until_s in self._quarantine.items() if batch in self._foreign}
        self._strikes = {batch: count for batch, count in self._strikes.items() if batch[0].filter in wanted}
        self.refused &= wanted
        self.had(one.filter for one in before)
        self._due |= dict.fromkeys(one.filter for one in before)

    def had(self, filters: Iterable[str]) -> None:
        """Earlier plans had these, also those of the process before this one: a kept session may have them still."""
        wanted = {one.filter for batch in (*self._own, *self._foreign) for one in batch}
        self._stale = {wire: None for wire in (*self._stale, *filters) if wire not in wanted}

    def gone(self) -> list[tuple[str, ...]]:
        """What to unsubscribe from, in batches, once a connection; after `done`, or what comes in between is lost."""
        due, self._due = [wire for wire in self._due if wire in self._stale], {}
        return _batches(due)

    def begin(self, *, shares: bool = True, kept: bool = False) -> None:
        """A connection is up: everything but the quarantined is asked for again, shared topics where that `shares`.

        `kept`: its session is an earlier one.
        """
        self._due = dict(self._stale) if kept else {}
        self._left = [*self._own, *(batch for batch in self._foreign if batch not in self._quarantine)]
        self._asked = None
        self._open = True
        self._shares = shares
        self.refused.clear()
        self._deny()

    def _deny(self) -> None:
        """To ask a broker that shares nothing would be a protocol error, over which it closes (MQTT 5, 3.2.2.3.13)."""
        denied = [] if self._shares else [batch for batch in self._left if batch[0].filter.startswith(SHARED)]
        self._left = [batch for batch in self._left if batch not in denied]
        self.refused |= {batch[0].filter for batch in denied}

    def next(self) -> tuple[Subscription, ...] | None:
        """What to subscribe to now; None while an answer is awaited and when all is done."""
        if self._asked is not None:
            return None
        if not self._left:
            self._left = [batch for batch, until_s in self._quarantine.items() if until_s <= self._clock()]
        self._asked = self._left.pop(0) if self._left else None
        return self._asked

    def answered(self, granted: Sequence[bool]) -> list[str]:
        """The SUBACK to the last SUBSCRIBE, one flag a filter; returns the filters that were refused."""
        asked, self._asked = self._asked or (), None
        self._strikes.pop(asked, None)
        self._quarantine.pop(asked, None)
        refused = [one.filter for one, good in zip(asked, granted, strict=False) if not good]
        self.refused.update(refused)
        return refused

    def lost(self) -> list[str]:
        """The connection ended; returns the filters that did it twice now, of which foreign ones are left out."""
        asked, self._asked, self._left, self._open = self._asked, None, [], False
        if asked is None:
            return []
        self._strikes[asked] = self._strikes.get(asked, 0) + 1
        if self._strikes[asked] < _STRIKES:
            return []
        if asked in self._foreign:
            self._quarantine[asked] = self._clock() + _QUARANTINE_S
        return [one.filter for one in asked] if self._strikes[asked] == _STRIKES else []


def _batches(every: Sequence[T]) -> list[tuple[T, ...]]:
    return [tuple(every[start : start + _FILTERS_AT_ONCE]) for start in range(0, len(every), _FILTERS_AT_ONCE)]
