"""Brings what a release is made of to the broker, and is done only when it has seen it there.

Each piece is looked for by its name, sent where it is absent, and looked for again: a PUBACK is no proof. What
does not stay is sent a few times; then verdict.py finds out why. A lost connection is made again, and a broker
that came back with less than it had gets everything anew.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from edged.errors import EdgedError
from edged.fleet import verdict
from edged.transports.mqtt.packets import Greeting
from edged.transports.mqtt.retained import OVERHEAD, TOGETHER, Heard, Lost, Put, Retained

_TRIES: Final = 3  # of sending what does not stay
_LOSSES: Final = 3  # connections in a row that brought nothing
_LOSSES_EVER: Final = 100
_AWAY_S: Final = (1, 1, 2, 4, 8, 16)  # how long a broker may restart
# How long to wait for what does not come: by how often it was sent. Brokers may put away late what they confirm.
_GRACE_S: Final = (0.05, 0.5, 2.0)
_SMALL: Final = 4096  # no broker's limit is below

LOST: Final = "the connection to the broker is lost; trying again"
BACK: Final = "the broker is back"

Hear = Callable[[Heard], None]


class Piece(msgspec.Struct, frozen=True):
    """A retained message that shall be there; `sha256` is its payload's, which `read` gives.

    `lives_s`: for how long it has to stay, 0 for ever. It is sent to live for `expires_s`.
    """

    topic: str
    sha256: str
    size: int
    read: Callable[[], bytes]
    lives_s: int = 0
    expires_s: int = 0


def document(topic: str, payload: bytes) -> Piece:
    """A document: it stays until somebody takes it away."""
    return Piece(topic, hashlib.sha256(payload).hexdigest(), len(payload), lambda: payload)


class Progress(msgspec.Struct, frozen=True):
    """How far it is, in bytes: seen at the broker, of these `reused`, and confirmed but not seen yet."""

    total: int
    there: int
    reused: int
    confirmed: int


class Sent(msgspec.Struct, frozen=True):
    """What it came to: all pieces, those that had to be sent, and how many of them more than once."""

    pieces: int
    size: int
    sent: int
    sent_size: int
    again: int


class Upload:
    """`connect`, then `ensure` as often as there are things to bring, in their order."""

    def __init__(
        self,
        make: Callable[[Hear], Retained],
        say: Callable[[Progress], None],
        note: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """`make` gives a connection that has not been made yet; `say` is told how far it is, `note` of lost ones."""
        self._make: Final = make
        self._broker: Final = make(self._hear)
        self._say: Final = say
        self._note: Final = note
        self._pieces: dict[str, Piece] = {}
        self._stages: list[set[str]] = []
        self._unknown: set[str] = set()
        self._there: set[str] = set()
        self._confirmed: set[str] = set()
        self._fresh: set[str] = set()  # sent since it was last looked for
        self._puts: Counter[str] = Counter()  # without those that a lost connection may have cut short
        self._sent: Counter[str] = Counter()
        self._news = 0  # grows with all that is learnt
        self._peeked: dict[str, bytes] | None = None
        self._fence = ""  # the name of something small that is there
        self._newest = ""  # a broker that forgot anything forgot what it was given last
        self._greeting: Greeting | None = None

    def connect(self) -> Greeting:
        """Raises EdgedError `broker` when it cannot be reached, or says that it keeps nothing."""
        self._greeting = greeting = self._broker.connect()
        if not greeting.retains:
            raise EdgedError("broker", verdict.KEEPS_NOTHING, verdict.KEEPS_NOTHING_HINT)
        return greeting

    def close(self) -> None:
        self._broker.close()

    def peek(self, topics: Sequence[str]) -> dict[str, bytes]:
        """What lies there of these, by topic: few and small ones. Raises EdgedError."""
        self._peeked = {}
        for loss in range(_LOSSES):
            try:
                self._broker.look(topics)
            except Lost:
                if loss == _LOSSES - 1:
                    raise
                self._reconnect()
            else:
                break
        found, self._peeked = self._peeked, None
        return found

    def ensure(self, pieces: Sequence[Piece]) -> Sent:
        """Until these are there, and those of the calls before still are. Raises EdgedError with what is in the way."""
        self._check_size(pieces)
        self._stages.append({one.topic for one in pieces})
        self._pieces |= {one.topic: one for one in pieces}
        self._unknown |= self._stages[-1] - self._there
        losses = ever = 0
        while True:
            before = self._news
            try:
                if self._step():
                    return self._sum(self._stages[-1])
            except Lost as lost:
                losses, ever = (0 if self._news > before else losses + 1), ever + 1
                if losses == _LOSSES or ever == _LOSSES_EVER:
                    raise self._why(lost.under_way) from lost
                self._puts.subtract(one.topic for one in lost.under_way)
                self._reconnect()

    # --- inside -------------------------------------------------------------------------------------

    def _check_size(self, pieces: Sequence[Piece]) -> None:
        room = (self._greeting.packet_limit if self._greeting else 0) - OVERHEAD
        for one in pieces:
            if one.size > room - len(one.topic):
                raise verdict.too_large(one.size, room - len(one.topic))

    def _step(self) -> bool:
        """Looks for what may be there and sends what is not, stage by stage; True when nothing is missing."""
        stage = next((stage for stage in self._stages if not stage <= self._there), None)
        if stage is None:
            return True
        self._look(stage)
        absent = [one for one in self._pieces.values() if one.topic in stage - self._there]
        for one in absent:
            if self._puts[one.topic] >= _TRIES:
                raise self._why([Put(one.topic, one.read())])
        if absent:
            largest = max(absent, key=lambda one: one.size)
            proven = max((self._pieces[topic].size for topic in self._there), default=0)
            # 3.1.1 has no word for a broker's limit: the largest goes alone, before the rest goes for nothing.
            self._put(absent if largest.size <= max(proven, _SMALL) else [largest])
        return False

    def _look(self, stage: set[str]) -> None:
        """Asks for what may be there. What was learnt before the connection ended is kept."""
        unknown = [topic for topic in self._pieces if topic in self._unknown & stage]
        for start in range(0, len(unknown), TOGETHER - 1):
            batch = unknown[start : start + TOGETHER - 1]
            tries = max(self._puts[topic] if topic in self._fresh else 0 for topic in batch)
            if not self._broker.look(batch, self._fence, grace_s=_GRACE_S[min(tries, len(_GRACE_S) - 1)]):
                self._forget()
                return
            # That what was sent before the connection ended did not arrive is no news: it may be what ends it.
            self._news += self._fresh.isdisjoint(batch)
            for seen in (self._unknown, self._confirmed, self._fresh):
                seen.difference_update(batch)
            kept = [topic for topic in batch if topic in self._there]
            self._newest = next((topic for topic in reversed(kept) if self._sent[topic]), self._newest)
            small = next((topic for topic in kept if self._pieces[topic].size <= _SMALL), "")
            self._fence = self._fence or small
            self._tell()

    def _put(self, pieces: Sequence[Piece]) -> None:
        def messages() -> Iterator[Put]:
            for one in pieces:
                self._puts[one.topic] += 1
                self._sent[one.topic] += 1
                self._unknown.add(one.topic)
                self._fresh.add(one.topic)
                yield Put(one.topic, one.read(), expires_s=one.expires_s)

        self._broker.put(messages(), self._on_confirmed)

    def _on_confirmed(self, put: Put, refusal: str) -> None:
        if refusal:
            raise verdict.refused(put, refusal)
        self._confirmed.add(put.topic)
        self._news += 1
        self._tell()

    def _hear(self, heard: Heard) -> None:
        if self._peeked is not None and heard.retained:
            self._peeked[heard.topic] = heard.payload
        piece = self._pieces.get(heard.topic)
        if piece is None or not heard.retained:
            return
        lives = heard.left_s is None or heard.left_s >= piece.lives_s
        if lives and hashlib.sha256(heard.payload).hexdigest() == piece.sha256:
            self._news += heard.topic in self._unknown
            self._there.add(heard.topic)
            for seen in (self._unknown, self._confirmed, self._fresh):
                seen.discard(heard.topic)
        else:
            self._there.discard(heard.topic)

    def _reconnect(self) -> None:
        """Also looks whether the broker still has what it was given last. Raises EdgedError `broker`."""
        self._note(LOST)
        for away_s in _AWAY_S:
            self._broker.close()
            time.sleep(away_s)
            try:
                self.connect()
                if not self._remembers():
                    self._forget()
            except Lost:
                continue
            except EdgedError as error:
                if error.fault.code != "broker" or away_s == _AWAY_S[-1]:
                    raise
            else:
                self._note(BACK)
                return
        raise Lost

    def _remembers(self) -> bool:
        newest = self._newest or self._fence
        self._there.discard(newest)
        if newest:
            self._broker.look([newest], grace_s=_GRACE_S[-1])
        return not newest or newest in self._there

    def _forget(self) -> None:
        """Nothing is known of what it has."""
        self._fence = self._newest = ""
        for seen in (self._there, self._confirmed, self._fresh):
            seen.clear()
        self._unknown = set(self._pieces)

    def _why(self, puts: Sequence[Put]) -> EdgedError:
        return verdict.explain(self._make, max(puts, key=lambda one: len(one.payload), default=None))

    def _size(self, topics: Iterable[str]) -> int:
        return sum(self._pieces[topic].size for topic in topics)

    def _tell(self) -> None:
        reused = [topic for topic in self._there if not self._sent[topic]]
        self._say(
            Progress(self._size(self._pieces), self._size(self._there), self._size(reused), self._size(self._confirmed))
        )

    def _sum(self, stage: set[str]) -> Sent:
        sent = [topic for topic in stage if self._sent[topic]]
        again = sum(self._sent[topic] > 1 for topic in stage)
        return Sent(len(stage), self._size(stage), len(sent), self._size(sent), again)
