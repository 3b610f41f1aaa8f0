"""The fleet as one broker has it: reads the retained topics that view.py makes values of. Blocking, for commands.

Brokers leave retained messages out of their answer to a wildcard without a word. Mosquitto 2.0 at QoS 1 sends what
fits a client's queue: of 1500 statuses 1020 came (`max_queued_messages` 1000 and 20 in flight), 120 with a queue of
100. At QoS 0 the kernel's buffers come to that, some MB: all of 12000 statuses came, of as many infos of 1 kB 4800 to
5400. So the boxes' statuses, a few bytes each, are asked for first, alone and at QoS 0: they say which boxes there are.
What is missing of the rest is asked for by name, where nothing is left out. A box that is found only then is a sign
that others are missing, and the picture says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from edged.fleet import view
from edged.fleet.view import Counts, Fleet
from edged.topics import Ota

_QUIET_S: Final = 0.3  # nothing came for so long: what is retained has come
_MOST_S: Final = 60.0
_TOPICS: Final = 250_000  # remembered at most, and bytes of them: a broker may be full of anything
_BYTES: Final = 512 * 2**20
_ALL: Final = 256  # names that are looked for again without asking whether that finds anything
_SAMPLE: Final = 64


class Heard(Protocol):
    """A message as transports/mqtt/retained.py hands it on."""

    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...


class Connection(Protocol):
    """What is asked of transports/mqtt/retained.py, which documents it."""

    def listen(self, filters: Sequence[str], *, qos: int = 1, settle_s: float = 0.5) -> None: ...
    def look(self, topics: Sequence[str], fence: str = "", *, grace_s: float = 0.05) -> bool: ...
    def turn(self, limit_s: float = 0.1) -> None: ...


class Census:
    """What the broker keeps, as far as it was heard: hand `hear` to a connection, and call `take` when it is new.

    Each message that comes later is taken too, so `fleet` is as new as the last `turn` of the connection.
    """

    def __init__(self, base: str, counts: Counts | None = None) -> None:
        """`counts` says which orders enough of the deploy keys have signed."""
        self._base: Final = base
        self._counts: Final = counts
        self._kept: dict[str, bytes] = {}
        self._bytes = 0
        self._heard = 0
        self._full = False
        self._notes: tuple[str, ...] = ()

    def hear(self, heard: Heard) -> None:
        """A message of the broker."""
        self._heard += 1
        before = len(self._kept.pop(heard.topic, b""))
        self._bytes -= before
        room = len(self._kept) < _TOPICS and self._bytes + len(heard.payload) <= _BYTES
        self._full = self._full or not room
        if heard.payload and len(heard.payload) <= view.LARGEST and room:
            self._kept[heard.topic] = heard.payload
            self._bytes += len(heard.payload)

    def take(self, connection: Connection, model: str = "+") -> Fleet:
        """Reads all boxes, and of them and of the orders only this model, or all. Raises what the connection does."""
        self._kept, self._bytes, self._full, self._notes = {}, 0, False, ()
        self._ask(connection, f"{self._base}/+/status")
        listed = {topic for topic in self._kept if topic.endswith("/status")}
        self._ask(connection, *view.orders(self._base, model))
        self._ask(connection, f"{self._base}/+/info", f"{self._base}/+/install/{model}")
        self._look_again(connection, model)
        found = sum(topic.endswith("/status") and topic not in listed for topic in self._kept)
        self._notes = tuple(self._doubts(found))
        return self.fleet

    @property
    def fleet(self) -> Fleet:
        """The fleet by what was heard so far."""
        return view.build(self._kept, self._base, counts=self._counts, incomplete=self._notes)

    def _ask(self, connection: Connection, *filters: str) -> None:
        """Until what is retained there has come, though no broker says when that is. What is asked for next by name
        comes after it, on brokers that keep to the order; others have been silent for a moment then.
        """
        until_s = time.monotonic() + _MOST_S
        connection.listen(filters, qos=0, settle_s=0)
        if not self._kept:
            self._rest(connection, until_s)
        if fence := next(iter(self._kept), ""):
            connection.look([], fence)
        self._rest(connection, until_s)

    def _rest(self, connection: Connection, until_s: float) -> None:
        quiet_s = time.monotonic() + _QUIET_S
        while time.monotonic() < min(quiet_s, until_s):
            before = self._heard
            connection.turn(_QUIET_S / 4)
            if self._heard > before:
                quiet_s = time.monotonic() + _QUIET_S

    def _look_again(self, connection: Connection, model: str) -> None:
        """Asks by name for what a box must have beside what came, and for the orders that most boxes listen to."""
        boxes = self.fleet.boxes
        models = {one.name for box in boxes for one in box.models if model in ("+", one.name)}
        whom = ["all", *sorted({f"group/{group}" for box in boxes for group in box.groups})]
        ota = Ota(self._base)
        orders = [name(one, to) for one in sorted(models) for to in whom for name in (ota.want, ota.undo)]
        missing = [topic for topic in orders if topic not in self._kept][:_ALL]
        missing += [
            topic
            for box in boxes
            for topic in view.topics(self._base, box.name, models & {one.name for one in box.models})
            if topic not in self._kept
        ]
        fence = next(iter(self._kept), "")
        if len(missing) > _ALL:
            sample = missing[:: len(missing) // _SAMPLE]
            connection.look(sample, fence)
            if not any(topic in self._kept for topic in sample):
                return  # such as models that nothing was ever pushed to
        if missing:
            connection.look(missing, fence)

    def _doubts(self, found: int) -> Iterator[str]:
        if found:
            yield (
                f"the broker left {found} boxes out of its list. They were found by other messages of theirs; boxes of "
                "which none came are missing here. Raise its limit (Mosquitto: max_queued_messages)"
            )
        if self._full:
            yield f"more than {_TOPICS} topics or {_BYTES >> 20} MiB lie under {self._base}: the rest was not read"
