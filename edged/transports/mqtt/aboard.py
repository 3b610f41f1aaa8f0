"""Pushes on the data plane's connection (`push.connection: shared`): what the broker is asked for, and when. No I/O.

Inputs stay first: nothing is asked for before all of theirs is, there is one question at a time, and blobs are asked
for one by one. The next one's turn is when the last one has come, or nothing follows the broker's answer: then the
broker does not have it, and whoever does may bring it at any time.

The session may be kept, so that a document that was asked for once is asked for in the way that brings what is
retained again, and what an earlier connection has asked for is given back. Brokers that close the connection over a
topic that they forbid would close the data plane's each time: after three in a row that ended with a question
unanswered, such questions rest for a minute, and for twice as long each time, up to ten minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from edged.topics import Ota, Tree
from edged.transports.mqtt.desk import Desk
from edged.transports.mqtt.ends import End
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.wanted import AT_ONCE, Step, Wanted, step

_log = logging.getLogger(__name__)
_PAUSE_S: Final = 0.25  # after the broker's answer; what it retains follows at once
_STRIKES: Final = 3
_REST_S: Final = 60.0
_REST_MOST_S: Final = 600.0
_LOOK_S: Final = 0.05
_GIVEN_BACK: Final = 64  # topics of earlier sessions, on one connection
_NOTHING: Final = Wanted()

Kind = Literal["gone", "pushes", "documents"]


class Question(msgspec.Struct, frozen=True):
    """One packet: an UNSUBSCRIBE where it is what is `gone`, else a SUBSCRIBE, whose answer is waited for."""

    kind: Kind
    filters: list[str]


class Aboard:
    """`on`: whether pushes come this way. All calls are the loop's.

    `next` gives a question as soon as there may be one; without one `again_s` says how long until the next look.
    """

    def __init__(self, tree: Tree, desk: Desk, clock: Callable[[], float]) -> None:
        self._desk = desk
        self._clock = clock
        self._ota = f"{Ota(tree.base).root}/"
        self._blobs = Ota(tree.base).blob("")
        self.on = False
        self._open = False
        self._due = False  # something has changed since the last look
        self._look_s: float | None = None  # when to look without that
        self._asked = Wanted()  # on this connection
        self._waits: Question | None = None
        self._blob = ""  # the last one that was asked for, until it has come
        self._blob_s = 0.0  # when the next one's turn is without it
        self._first = True  # of this daemon's connections
        self._left: set[str] = set()  # what the session has of earlier connections, and was not asked for on this one
        self._given_back: set[str] = set()
        self._strikes: dict[Kind, int] = {}
        self._rests: dict[Kind, float] = {}

    # --- what changes ---------------------------------------------------------------------------------

    def switch(self, *, on: bool) -> None:
        """Pushes come this way from now on, or no more: then what was asked for is given back."""
        self.on, self._due = on, True
        self._desk.connection(self, on and self._open)

    def look(self) -> None:
        """The desk wants something else, or time has passed."""
        self._due = True

    # --- the connection -------------------------------------------------------------------------------

    def opened(self, *, session_present: bool) -> None:
        """A connection on which all else is subscribed to."""
        # An earlier daemon may have had pushes come this way.
        before = _topics(self._desk.wanted) if self._first else _topics(self._asked) | self._left
        self._left = before if session_present else set()
        self._given_back.clear()
        self._first, self._open, self._due = False, True, True
        self._asked = Wanted()
        self._desk.connection(self, self.on)

    def lost(self, end: End) -> None:
        waits, self._waits = self._waits, None
        self._open, self._blob = False, ""
        self._desk.connection(self, up=False)
        if waits is None or end is End.AWAY:
            return
        strikes = self._strikes[waits.kind] = self._strikes.get(waits.kind, 0) + 1
        if end is End.NAMED or strikes >= _STRIKES:
            rest_s = min(_REST_MOST_S, _REST_S * 2 ** max(0, strikes - _STRIKES))
            self._rests[waits.kind] = self._clock() + rest_s
            text = "the broker closes the connection over %s, which is asked again in %.0f s: does its ACL lack `%s`?"
            _log.warning(text, ", ".join(waits.filters), rest_s, self._desk.line(waits.filters[0]))

    @property
    def waiting(self) -> bool:
        """Whether an answer is awaited: whatever else were asked meanwhile might be what the broker minds."""
        return self._waits is not None

    def answered(self, refusals: Sequence[str]) -> None:
        """The broker's word on the question that waits, "" for each filter that it grants."""
        waits, self._waits = self._waits, None
        if waits is not None:
            self._due = True
            self._strikes.pop(waits.kind, None)
            self._blob_s = self._clock() + _PAUSE_S
            self._desk.answered(waits.filters, refusals)

    def take(self, came: Arrival) -> Callable[[], None] | None:
        """What to do about a message after its acknowledgement; None: it is none of ours."""
        topic = came.topic
        if not self.on or not (topic.startswith(self._ota) or topic in self._desk.wanted.pushes):
            return None
        if topic == self._blob:
            self._blob, self._due = "", True
        call = self._desk.call(came)
        if call is None and topic not in self._given_back and len(self._given_back) < _GIVEN_BACK:
            self._given_back.add(topic)
            self._left.add(topic)
            self._due = True
        return call

    # --- what to ask ----------------------------------------------------------------------------------

    @property
    def again_s(self) -> float | None:
        return None if self._look_s is None or not self._open else max(0.01, self._look_s - self._clock())

    @property
    def _wanted(self) -> Wanted:
        return self._desk.wanted if self.on else _NOTHING

    def next(self, *, busy: bool) -> Question | None:
        """What to tell the broker now; `busy`: a message is under way, and has not come whole."""
        if not self._due or not self._open:
            return None
        self._look_s = None
        steps = step(self._asked, self._wanted)
        left = sorted(self._left - _topics(self._wanted))[:AT_ONCE]
        if gone := left or [one for batch in steps.gone[:1] for one in batch]:
            self._left.difference_update(gone)
            self._asked = _without(self._asked, gone)
            return Question("gone", gone)
        found = None if self._waits is not None else self._ask(steps, busy=busy)
        if found is None:
            self._due = False
            return None
        self._waits = found
        self._asked = _with(self._asked, self._wanted, found.filters)
        self._left.difference_update(found.filters)
        return found

    def _ask(self, steps: Step, *, busy: bool) -> Question | None:
        asked = [one for batch in steps.documents for one in batch]
        rest = [one for one in asked if not one.startswith(self._blobs)]
        if steps.pushes and self._may("pushes"):
            return Question("pushes", steps.pushes[0])
        if not asked or not self._may("documents"):
            return None
        if rest:
            return Question("documents", rest[:AT_ONCE])
        now_s = self._clock()
        if self._blob in self._desk.wanted.documents and (busy or now_s < self._blob_s):
            self._look_s = max(self._blob_s, now_s + _LOOK_S)
            return None
        self._blob = asked[0]
        return Question("documents", asked[:1])

    def _may(self, kind: Kind) -> bool:
        until_s = self._rests.get(kind, 0.0)
        if until_s <= self._clock():
            return True
        self._look_s = until_s if self._look_s is None else min(self._look_s, until_s)
        return False


def _topics(wanted: Wanted) -> set[str]:
    return {*wanted.pushes, *wanted.documents}


def _with(asked: Wanted, wanted: Wanted, topics: Sequence[str]) -> Wanted:
    """What is asked for when these topics are, too."""
    return Wanted(
        asked.pushes | {one: wanted.pushes[one] for one in topics if one in wanted.pushes},
        asked.documents | {one: wanted.documents[one] for one in topics if one in wanted.documents},
    )


def _without(asked: Wanted, topics: Sequence[str]) -> Wanted:
    return Wanted(
        {one: model for one, model in asked.pushes.items() if one not in topics},
        {one: number for one, number in asked.documents.items() if one not in topics},
    )
