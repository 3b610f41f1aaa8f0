"""The audit as somebody asks for it: one model's lines, of the last hours, and whether the chain is whole."""

from __future__ import annotations

import collections
import datetime
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edged.config.units import Duration
from edged.delivery.audit import Chain, Entry
from edged.delivery.trail import lines

MOST_BYTES = 48 * 1024  # of an excerpt: brokers with small packets carry it too


class Question(msgspec.Struct, frozen=True):
    """`since` is the earliest time stamp that counts, in the form of the lines: such texts compare as times do."""

    model: str = ""
    since: str = ""

    def wants(self, entry: Entry) -> bool:
        return self.model in ("", entry.model) and entry.ts >= self.since


class Excerpt(msgspec.Struct, frozen=True):
    """The newest lines, oldest first. `more`: older ones that fit the question were left out."""

    entries: tuple[Entry, ...]
    more: bool
    problems: tuple[str, ...]


def since(age: str, now: datetime.datetime) -> str:
    """The time stamp of `age` (`30m`, `7d`) before `now`, "" for "". Raises ValueError for what is no age."""
    if not age:
        return ""
    try:
        when = now - datetime.timedelta(seconds=Duration.parse(age))
    except OverflowError as error:
        raise ValueError("that is before the calendar begins") from error
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def walk(root: Path, question: Question) -> Iterator[tuple[bytes, Entry | None, str]]:
    """Every line with what it says, None unless it was asked for, and what is wrong with the chain there.

    Raises OSError.
    """
    chain = Chain()
    for line in lines(root):
        entry, problem = chain.take(line)
        yield line, entry if entry is not None and question.wants(entry) else None, problem


def excerpt(root: Path, question: Question, most: int) -> Excerpt:
    """The newest `most` lines that were asked for, and no more of them than MOST_BYTES. Raises OSError."""
    kept: collections.deque[tuple[int, Entry]] = collections.deque()
    problems: list[str] = []
    size, more = 0, False
    for line, entry, problem in walk(root, question):
        if problem and len(problems) < most:
            problems.append(problem)
        if entry is None:
            continue
        kept.append((len(line), entry))
        size += len(line)
        while len(kept) > most or size > MOST_BYTES:
            size -= kept.popleft()[0]
            more = True
    return Excerpt(tuple(entry for _, entry in kept), more, tuple(problems))
