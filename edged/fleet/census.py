"""The fleet as one broker has it: reads the retained topics that view.py makes values of. Blocking, for commands.

Brokers leave retained messages out of their answer to a wildcard without a word. Mosquitto does so past a client's
queue: of 1500 statuses asked for at QoS 1 1020 came (`max_queued_messages` 1000 and 20 in flight), with a queue of 100
120; at QoS 0, which queues nothing, all came, also to a slow reader. So it is asked for at QoS 0, and whatever a box
must have beside what came is looked for again by its own name, where nothing is left out. If something is found only
then, boxes of which no message came at all may be missing too, and the picture says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from edged.fleet import view
from edged.fleet.view import Counts, Fleet

_QUIET_S: Final = 0.4  # nothing came for so long: what is retained has come
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

    def listen(self, filters: Sequence[str], *, qos: int = 1) -> None: ...
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
        filters = [f"{self._base}/+/{one}" for one in ("status", "info", f"install/{model}")]
        connection.listen([*filters, *view.orders(self._base, model)], qos=0)
        self._settle(connection)
        found = self._look_again(connection, model)
        self._notes = tuple(self._doubts(found))
        return self.fleet

    @property
    def fleet(self) -> Fleet:
        """The fleet by what was heard so far."""
        return view.build(self._kept, self._base, counts=self._counts, incomplete=self._notes)

    def _settle(self, connection: Connection) -> None:
        """Until the broker has been silent for a moment."""
        until_s = time.monotonic() + _MOST_S
        quiet_s = time.monotonic() + _QUIET_S
        while time.monotonic() < min(quiet_s, until_s):
            before = self._heard
            connection.turn(_QUIET_S / 4)
            if self._heard > before:
                quiet_s = time.monotonic() + _QUIET_S

    def _look_again(self, connection: Connection, model: str) -> int:
        """Asks by name for what must be there beside what came; how many of them there were."""
        missing = [
            topic
            for box in self.fleet.boxes
            for topic in view.topics(self._base, box.name, [one.name for one in box.models if model in ("+", one.name)])
            if topic not in self._kept
        ]
        fence = next(iter(self._kept), "")
        if len(missing) > _ALL and not self._find(connection, missing[:: len(missing) // _SAMPLE], fence):
            return 0
        return self._find(connection, missing, fence)

    def _find(self, connection: Connection, topics: Sequence[str], fence: str) -> int:
        if topics:
            connection.look(topics, fence)
        return sum(topic in self._kept for topic in topics)

    def _doubts(self, found: int) -> Iterator[str]:
        if found:
            yield (
                f"the broker left {found} retained messages out of its answers. They were asked for by name; boxes of "
                "which no message came at all are missing here"
            )
        if self._full:
            yield f"more than {_TOPICS} topics or {_BYTES >> 20} MiB lie under {self._base}: the rest was not read"
