"""Which messages lie on the disk, in which order they go, and which go first where there is no room. No I/O.

- Messages have serial numbers and lie in parts, a file each, the oldest first; each part is read from its start.
- A message is done when the broker has it, or nobody wants it any more. A part is gone when all of it is done, and
  those before it; so at most one part of what was done comes again after a crash.
- Where a message finds no room the oldest part goes (a sixteenth of the whole), or the message itself (`drop-newest`).
- A part that the disk does not let us read is shut: it keeps its place and its size, and those behind it go on.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from edged.transports.mqtt.records import Moment, Record

PARTS: Final = 16
FIRST: Final = 2**40  # serial; there is room before it
LEAST: Final = 8  # bytes that a message takes, and more
_OLD: Final = "outbox_old"
_EXPIRED: Final = "expired"


class Part(msgspec.Struct, eq=False):
    """The messages `first` and up, `count` of them, in `size` bytes; the newest was filed at `newest`.

    So many of them are `done` from the start on, and those with the numbers in `beyond`. The next to be read is number
    `at`. Numbers count from 0. One that is `shut` cannot be read now, for that reason; its `count` is 0 where it never
    could. Behind one that is or was, `apart`, others may be gone.
    """

    first: int
    count: int
    size: int
    newest: Moment
    done: int = 0
    at: int = 0
    beyond: set[int] = msgspec.field(default_factory=set)
    shut: str = ""
    apart: bool = False

    @property
    def left(self) -> int:
        """Messages that are not done."""
        return self.count - self.done - len(self.beyond)

    def begin(self, done: int) -> None:
        """The first ones are done, and so are those of `beyond`."""
        self.done = max(self.done, min(done, self.count))
        self.beyond = {number for number in self.beyond if number >= self.done}
        self.settle()
        self.at = max(self.at, self.done)

    def settle(self) -> None:
        """`done` goes as far as it can."""
        while self.done in self.beyond:
            self.beyond.discard(self.done)
            self.done += 1

    @property
    def end(self) -> int:
        """No message in it has a serial number as high as this."""
        return self.first + (self.count or self.size // LEAST + 1)


class Stock:
    """`most` bytes at most, heads and all."""

    def __init__(self, most: int, overflow: Literal["drop-oldest", "drop-newest"] = "drop-oldest") -> None:
        self._most: Final = most
        self._overflow: Final = overflow
        self.parts: list[Part] = []
        self._next = FIRST
        self._growing = False  # the newest part takes more
        self.size = 0
        self.lost = 0  # messages that `found` has missed

    def __len__(self) -> int:
        """Messages that are not done."""
        return sum(part.left for part in self.parts)

    def found(self, parts: Sequence[Part]) -> None:
        """What an earlier daemon has left, the oldest first. What is filed from now on goes into other parts."""
        self.parts = list(parts)
        self.size = sum(part.size for part in parts)
        for part in parts:
            part.at = part.done
        for part, after in itertools.pairwise(parts):
            if not part.apart:
                self.lost += max(0, after.first - part.first - part.count)
        if parts:
            self._next = max(parts[-1].end, FIRST)

    def opened(self, part: Part) -> int:
        """One that was shut, as it is found now, unless it is gone meanwhile; how many messages of it are damaged."""
        index = next((index for index, one in enumerate(self.parts) if one.shut and one.first == part.first), -1)
        if index < 0:
            return 0
        before, self.parts[index] = self.parts[index], part
        self.size += part.size - before.size
        part.at = min(before.at, part.count)
        part.begin(before.done)
        damaged = len(part.beyond - before.beyond) + max(0, before.count - part.count)
        part.beyond |= {number for number in before.beyond if number < part.count}
        part.settle()
        return damaged

    def forget(self, part: Part) -> None:
        """There is nothing in it any more."""
        if part in self.parts:
            self._remove(self.parts.index(part))

    def shut(self, part: Part, why: str) -> None:
        """It cannot be read now."""
        part.shut, part.apart = why, True
        if self.parts and part is self.parts[-1]:
            self._growing = False

    @property
    def following(self) -> int:
        """The serial number that is given next."""
        return self._next

    # --- filing -----------------------------------------------------------------------------------------

    def room(self, size: int) -> list[Part] | None:
        """What goes so that `size` bytes more find room, gone from here already; None when they find none."""
        if size > self._most or (self._overflow == "drop-newest" and self.size + size > self._most):
            return None
        gone = []
        while self.size + size > self._most:
            gone.append(self._remove(0))
        return gone

    def where(self, size: int) -> tuple[int, bool]:
        """Into which part `size` bytes go, by its first message, and whether it is a new one."""
        last = self.parts[-1] if self.parts and self._growing else None
        if last is None or (last.size + size > self._most // PARTS and last.count):
            return self._next, True
        return last.first, False

    def filed(self, first: int, count: int, size: int, now: Moment) -> None:
        """So many messages are in the part now that `where` has named, in so many bytes."""
        if not (self.parts and self._growing and self.parts[-1].first == first):
            self.parts.append(Part(first, 0, 0, now))
            self._growing = True
        last = self.parts[-1]
        last.count, last.size, last.newest = last.count + count, last.size + size, now
        self.size += size
        self._next = last.first + last.count

    def closed(self) -> None:
        """The newest part takes no more: what is filed next goes into another."""
        self._growing = False

    # --- going ------------------------------------------------------------------------------------------

    def next(self) -> tuple[Part, int] | None:
        """The part to read from, and the number of the message in it; None when all is read."""
        return next(((part, part.at) for part in self.parts if part.at < part.count and not part.shut), None)

    def read(self, part: Part, count: int) -> list[int]:
        """So many more of a part are read; returns the serial numbers of those, 0 for one that is done."""
        numbers = range(part.at, part.at + count)
        part.at += count
        return [0 if number < part.done or number in part.beyond else part.first + number for number in numbers]

    def has(self, serial: int) -> bool:
        return self._part(serial) is not None

    def finish(self, serial: int) -> None:
        """A message is done. One that is not here any more is nothing."""
        part = self._part(serial)
        if part is None:
            return
        part.beyond.add(serial - part.first)
        part.settle()

    def rewind(self) -> None:
        """Whatever is not done is read again."""
        for part in self.parts:
            part.at = part.done

    def cut(self, part: Part) -> int:
        """What was not read of a part is gone; how many messages. It takes no more."""
        before = part.left
        part.count = part.at
        part.beyond = {number for number in part.beyond if number < part.count}
        if self.parts and part is self.parts[-1]:
            self._growing = False
        return before - part.left

    def gone(self, now: Moment, age_s: float) -> tuple[list[Part], int]:
        """Parts that are done with, gone from here already, and how many messages in them are only too old."""
        gone, old = [], 0
        for part in list(self.parts):
            age = part.newest.age_s(now)
            if age is None or age < age_s:
                if part.shut and (part.left or not part.count):
                    continue
                if part.left:
                    break
            old += part.left
            gone.append(self._remove(self.parts.index(part)))
        return gone, old

    @property
    def mark(self) -> tuple[int, int]:
        """How far the oldest part that can be read is done: its first message, and how many; (0, 0) for none."""
        return next(((part.first, part.done) for part in self.parts if not part.shut), (0, 0))

    @property
    def aside(self) -> list[Part]:
        """Parts that cannot be read now."""
        return [part for part in self.parts if part.shut]

    def _part(self, serial: int) -> Part | None:
        return next((part for part in self.parts if part.first <= serial < part.first + part.count), None)

    def _remove(self, index: int) -> Part:
        part = self.parts.pop(index)
        self.size -= part.size
        if index == len(self.parts):
            self._growing = False
        return part


class Fate(msgspec.Struct, frozen=True):
    """What becomes of a message whose turn it is: dropped for a `reason`, made to `wait`, or sent."""

    reason: str = ""
    wait: bool = False
    left_s: float | None = None


def fate(record: Record, boot: str, now: Moment, age_s: float, *, patient: bool) -> Fate:
    """One that may be under way for some time only is never sent later: while no clock tells how long it has lain here
    it waits, as long as we are `patient`, and is dropped then.
    """
    age = record.filed(boot).age_s(now)
    left_s = None
    if record.left_s is not None:
        if age is None:
            return Fate(wait=True) if patient else Fate(_EXPIRED)
        left_s = record.left_s - age
        if left_s <= 0:
            return Fate(_EXPIRED)
    return Fate(_OLD) if age is not None and age >= age_s else Fate(left_s=left_s)
