"""Inputs of one model that run together: each value waits for those of the same stream (RULES 16). No I/O.

The model runs when every input without `hold` has a new value of a stream; an input with `hold` lends its last one.
A stream is what the named levels of a topic say: `cells/+cell/temp` and `cells/+cell/flow` meet by cell.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from edged.config import schema
from edged.topics import TopicFilter
from edged.transports.mqtt.results import Receipt, Sender

STREAMS: Final = 256  # of one model that wait for a partner, and values that are held
BYTES: Final = 32 * 2**20  # of one model's values, waiting and held
PATIENCE_S: Final = 60.0  # how long a value without max_age waits for its partners
# A broker sends only so many messages that are not acknowledged, Mosquitto 20 on 3.1.1: were all of them values that
# wait, their partners would never come. Beyond these, over all models, the oldest is acknowledged while it waits.
OWED: Final = 8

Stream = tuple[str, ...]


class Part(msgspec.Struct, eq=False):
    """One value. `oldest_ms`: its own time stamp has to be this at least; 0: any."""

    sender: Sender
    oldest_ms: int = 0

    @property
    def form(self) -> int:
        return self.sender.target.form

    @property
    def size(self) -> int:
        return len(self.sender.arrival.payload)


class Joined(msgspec.Struct):
    """What became of values: those that met, the newest last, and those that are dropped, with the code why.

    `settled`: their message may be acknowledged now.
    """

    met: list[list[Part]] = []
    gone: list[tuple[Part, str]] = []
    settled: list[Receipt] = []


class Owed:
    """The parts that wait while the broker has not been told of them."""

    def __init__(self) -> None:
        self._parts: OrderedDict[int, Part] = OrderedDict()

    def __contains__(self, part: Part) -> bool:
        return id(part) in self._parts

    def add(self, part: Part) -> list[Receipt]:
        """Remembers one; returns the receipt of the one that may not wait like this any longer."""
        if part.sender.receipt.owed:
            self._parts[id(part)] = part
        return [_free(self._parts.popitem(last=False)[1])] if len(self._parts) > OWED else []

    def remove(self, part: Part) -> None:
        self._parts.pop(id(part), None)


class Joiner:
    """The values of one model's inputs that wait or are held."""

    def __init__(self, model: schema.Model, owed: Owed) -> None:
        names = [frozenset(TopicFilter.parse(one.topic).names) for one in model.inputs]
        self._hold = {form: one.hold for form, one in enumerate(model.inputs) if one.hold is not None}
        self._wanted = [form for form in range(len(names)) if form not in self._hold]
        self._patience = [PATIENCE_S if one.max_age is None else one.max_age for one in model.inputs]
        self._names = sorted(names[self._wanted[0]])
        # Where in a stream the levels are that a held value has, too.
        self._shared = {form: [at for at, name in enumerate(self._names) if name in names[form]] for form in self._hold}
        self._waiting: OrderedDict[Stream, dict[int, Part]] = OrderedDict()
        self._held: OrderedDict[tuple[int, Stream], Part] = OrderedDict()
        self._bytes = 0
        self._owed = owed

    def __len__(self) -> int:
        """Streams that wait for a partner, and values that are held."""
        return len(self._waiting) + len(self._held)

    def take(self, part: Part, now_s: float) -> Joined:
        """A new value, in place of the one before it. `now_s` is of the monotonic clock."""
        joined = Joined()
        if part.form in self._hold:
            self._lend(part, joined, now_s)
        else:
            self._wait(part, joined, now_s)
        while self._bytes > BYTES or len(self._waiting) > STREAMS or len(self._held) > STREAMS:
            self._make_room(joined)
        return joined

    def sweep(self, now_s: float) -> Joined:
        """What has waited for its partners too long, and what is held no longer."""
        joined = Joined()
        for stream in list(self._waiting):
            for part in list(self._waiting[stream].values()):
                if now_s - part.sender.arrived_s > self._patience[part.form]:
                    self._drop(stream, part, joined, "no_partner")
        for key, part in list(self._held.items()):
            if not self._fresh(part, now_s):
                self._bytes -= self._held.pop(key).size
        return joined

    def forget(self, number: int) -> None:
        """The broker sends again what came on connections before `number` and was not acknowledged."""
        for stream in list(self._waiting):
            for part in list(self._waiting[stream].values()):
                if part.sender.arrival.number < number and part in self._owed:
                    self._drop(stream, part, Joined(), "")

    def _wait(self, part: Part, joined: Joined, now_s: float) -> None:
        stream = tuple(part.sender.target.levels[name] for name in self._names)
        if (old := self._waiting.get(stream, {}).get(part.form)) is not None:
            self._drop(stream, old, joined, "replaced")
        values = self._waiting.setdefault(stream, {})
        values[part.form] = part
        self._waiting.move_to_end(stream)
        self._bytes += part.size
        joined.settled += self._owed.add(part)
        self._meet(stream, joined, now_s)

    def _lend(self, part: Part, joined: Joined, now_s: float) -> None:
        """A held value's outcome is final: no answer is its own."""
        levels = part.sender.target.levels
        key = (part.form, tuple(levels[self._names[at]] for at in self._shared[part.form]))
        if (old := self._held.pop(key, None)) is not None:
            self._bytes -= old.size
        joined.settled.append(_free(part))
        self._held[key] = part
        self._bytes += part.size
        for stream in list(self._waiting):
            self._meet(stream, joined, now_s)

    def _meet(self, stream: Stream, joined: Joined, now_s: float) -> None:
        """Takes the stream's values out when all are there."""
        values = self._waiting[stream]
        if len(values) < len(self._wanted):
            return
        lent = [self._lender(form, stream) for form in self._hold]
        fresh = [part for part in lent if part is not None and self._fresh(part, now_s)]
        if len(fresh) < len(lent):
            return
        for part in values.values():
            self._owed.remove(part)
            self._bytes -= part.size
        del self._waiting[stream]
        joined.met.append([*fresh, *values.values()])

    def _lender(self, form: int, stream: Stream) -> Part | None:
        return self._held.get((form, tuple(stream[at] for at in self._shared[form])))

    def _fresh(self, held: Part, now_s: float) -> bool:
        return now_s - held.sender.arrived_s <= self._hold[held.form]

    def _make_room(self, joined: Joined) -> None:
        """Lets go of the stream that has waited longest for news; of held values only where no stream waits."""
        if self._waiting and (len(self._waiting) > STREAMS or len(self._held) <= STREAMS):
            stream = next(iter(self._waiting))
            for part in list(self._waiting[stream].values()):
                self._drop(stream, part, joined, "no_partner")
        else:
            self._bytes -= self._held.popitem(last=False)[1].size

    def _drop(self, stream: Stream, part: Part, joined: Joined, code: str) -> None:
        values = self._waiting[stream]
        del values[part.form]
        if not values:
            del self._waiting[stream]
        self._bytes -= part.size
        self._owed.remove(part)
        joined.gone.append((part, code))


def _free(part: Part) -> Receipt:
    """The part's receipt, which is settled apart from its answer from now on."""
    receipt = part.sender.receipt
    part.sender = msgspec.structs.replace(part.sender, receipt=Receipt.settled())
    return receipt
