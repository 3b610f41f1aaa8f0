"""The fleet as one broker has it: reads the retained topics that view.py makes values of. Blocking, for commands.

Brokers leave retained messages out of a long answer to a wildcard, without a word. Mosquitto 2.0 at QoS 1 sends what
fits a client's queue: of 1500 statuses 1020 came (`max_queued_messages` 1000 and 20 in flight), 120 with a queue of
100. At QoS 0 the kernel's buffers come to that: all of 12000 statuses came, but of as many infos of 1 kB 4800 to 5400,
and what else was under way then, SUBACKs too, was lost with the rest. So only the statuses, a few bytes each, are asked
for by wildcard, at QoS 0: they say which boxes there are. The rest is asked for by name, a few topics at a time; by
wildcard only in a fleet so small that it fits any queue.
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
_FEW: Final = 250  # boxes whose messages fit any queue, with some models each
_MANY: Final = 3000  # statuses that fit the buffers of a connection over a long way, and Mosquitto's queue
_SAMPLE: Final = 64
_TOPICS: Final = 250_000  # remembered at most, and bytes of them: a broker may be full of anything
_BYTES: Final = 512 * 2**20


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

    In a small fleet each message that comes later is taken too (`live`): `fleet` is as new as the last `turn`.
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
        self.live = False  # whether what comes later is heard of all boxes

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
        listed = {box.name for box in self.fleet.boxes}
        self._ask(connection, *view.orders(self._base, model))
        self.live = len(listed) <= _FEW
        if self.live:
            self._ask(connection, f"{self._base}/+/info", f"{self._base}/+/install/{model}")
        self._look(connection, [f"{self._base}/{box.name}/info" for box in self.fleet.boxes])
        self._look(connection, list(self._said(model)))
        self._look(connection, list(self._ordered(model)))
        self._notes = tuple(self._doubts(listed))
        return self.fleet

    @property
    def fleet(self) -> Fleet:
        """The fleet by what was heard so far."""
        return view.build(self._kept, self._base, counts=self._counts, incomplete=self._notes)

    def _ask(self, connection: Connection, *filters: str) -> None:
        """Until what is retained there has come. No broker says when that is: it has been silent for a moment, and then
        what was asked for by name has come, which is behind it on brokers that keep to the order.
        """
        until_s = time.monotonic() + _MOST_S
        connection.listen(filters, qos=0, settle_s=0)
        self._rest(connection, until_s)
        if fence := next(iter(self._kept), ""):
            connection.look([], fence)
            self._rest(connection, min(until_s, time.monotonic() + _QUIET_S / 3))

    def _rest(self, connection: Connection, until_s: float) -> None:
        quiet_s = time.monotonic() + _QUIET_S
        while (now_s := time.monotonic()) < min(quiet_s, until_s):
            before = self._heard
            connection.turn(min(_QUIET_S / 4, until_s - now_s))
            if self._heard > before:
                quiet_s = time.monotonic() + _QUIET_S

    def _look(self, connection: Connection, topics: list[str]) -> None:
        """Asks for these by name, if they have not come yet; of many first for some, to see whether there are any."""
        missing = [topic for topic in topics if topic not in self._kept]
        fence = next(iter(self._kept), "")
        if len(missing) > 2 * _SAMPLE:
            sample = missing[:: len(missing) // _SAMPLE]
            connection.look(sample, fence)
            if not any(topic in self._kept for topic in sample):
                return
        if missing:
            connection.look([topic for topic in missing if topic not in self._kept], fence)

    def _said(self, model: str) -> Iterator[str]:
        """What boxes say of their models, by their infos."""
        for box in self.fleet.boxes:
            names = [one.name for one in box.models if model in ("+", one.name)]
            yield from view.topics(self._base, box.name, names)

    def _ordered(self, model: str) -> Iterator[str]:
        """Where orders lie that most boxes listen to."""
        boxes, ota = self.fleet.boxes, Ota(self._base)
        models = {one.name for box in boxes for one in box.models if model in ("+", one.name)}
        whom = ["all", *sorted({f"group/{group}" for box in boxes for group in box.groups})]
        yield from (name(one, to) for one in sorted(models) for to in whom for name in (ota.want, ota.undo))

    def _doubts(self, listed: set[str]) -> Iterator[str]:
        left_out = [box for box in self.fleet.boxes if box.name not in listed and box.presence != "unknown"]
        if len(listed) > _MANY:
            yield f"the broker lists {len(listed)} boxes and may have left some out: past its buffers Mosquitto does"
        elif left_out:
            yield f"the broker lists {len(listed)} boxes and left out {len(left_out)}, so others may be missing here"
        if self._full:
            yield f"more than {_TOPICS} topics or {_BYTES >> 20} MiB lie under {self._base}: the rest was not read"
