"""The audit's lines: one decision each, chained by their hashes, so that one which was changed or taken out shows.

A line is a JSON object that ends in `"hash"`: the SHA-256 of the line's bytes before `,"hash"`. These begin
with the line's number and hold `prev`, the hash of the line before, 64 zeros for the first one. Lines that were
cut off at the end of the newest file do not show: the `event` topic and the journal tell the newest number.

Pure: lines come in and go out as bytes, the clock as an argument.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from typing import Final, Literal

import msgspec

Event = Literal[
    "started",
    "stopped",
    "damaged",
    "offered",
    "arrived",
    "rejected",
    "failed",
    "switched",
    "committed",
    "rolled_back",
    "rollback_refused",
    "pinned",
    "unpinned",
    "loaded",
    "unloaded",
    "fell_back",
    "blocked",
    "trusted",
    "reloaded",
    "reload_refused",
]

FIRST_PREV: Final = "0" * 64
_LONGEST: Final = 2000  # characters of a message: some quote what a stranger sent
_TAIL: Final = re.compile(rb',"hash":"([0-9a-f]{64})"}')
_TAIL_SIZE: Final = len(',"hash":""}') + 64


class Decision(msgspec.Struct, frozen=True):
    """What was decided, about which version of which model, why, and who asked: `by` "" is edged itself."""

    event: Event
    message: str
    model: str = ""
    version: str = ""
    sha256: str = ""
    code: str = ""
    by: str = ""

    @property
    def kind(self) -> tuple[str, ...]:
        """Decisions of one kind within a second are one line: what a flood of bad pushes can write is bounded."""
        return self.event, self.model, self.code, self.by


def fell_back(model: str, version: str, sha256: str, why: str) -> Decision:
    """A model runs, and not on what it is meant to run on first."""
    return Decision("fell_back", f"the model runs on the CPU: {why}", model, version, sha256, "no_provider")


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line without its own hash. `ts` is UTC; `count` decisions of this kind came at once, this is the newest."""

    n: int
    ts: str
    event: str
    message: str = ""
    model: str = ""
    version: str = ""
    sha256: str = ""
    code: str = ""
    by: str = ""
    count: int = 1
    prev: str = ""


class Link(msgspec.Struct, frozen=True):
    """Where a chain stands: the number and the hash of its last line."""

    n: int = 0
    hash: str = FIRST_PREV


def entry(decision: Decision, after: Link, now_ms: int, count: int = 1) -> Entry:
    """The next line after `after`. `now_ms` is wall clock."""
    when = datetime.datetime.fromtimestamp(now_ms / 1000, datetime.UTC)
    return Entry(
        after.n + 1,
        when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        decision.event,
        # A path may hold bytes that are no UTF-8, and a line is UTF-8.
        decision.message[:_LONGEST].encode("utf-8", "backslashreplace").decode(),
        decision.model,
        decision.version,
        decision.sha256,
        decision.code,
        decision.by,
        count,
        after.hash,
    )


def encode(one: Entry) -> tuple[bytes, Link]:
    """The line with its newline, and the chain's end after it."""
    body = msgspec.json.encode(one)[:-1]
    digest = hashlib.sha256(body).hexdigest()
    return b'%s,"hash":"%s"}\n' % (body, digest.encode()), Link(one.n, digest)


def decode(line: bytes) -> tuple[Entry, Link, bool]:
    """A line without its newline: what it says, the hash it carries, and whether that is its own.

    Raises ValueError for what is no line.
    """
    tail = _TAIL.fullmatch(line[-_TAIL_SIZE:])
    if tail is None:
        raise ValueError("no line of an audit")
    body = line[:-_TAIL_SIZE]
    try:
        found = msgspec.json.decode(body + b"}", type=Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    digest = tail[1].decode()
    return found, Link(found.n, digest), hashlib.sha256(body).hexdigest() == digest


class Chain:
    """Walks along the lines, oldest first. The first one may have any number: older files are removed in time."""

    def __init__(self) -> None:
        self.last: Link | None = None

    def take(self, line: bytes) -> tuple[Entry | None, str]:
        """What the line says, None where it says nothing, and what is wrong with it or before it, "" for nothing."""
        try:
            found, link, whole = decode(line)
        except ValueError:
            after = f"after entry {self.last.n} " if self.last else ""
            return None, f"a line {after}cannot be read"
        before, self.last = self.last, link
        if not whole:
            return found, f"entry {found.n} was changed"
        if before is None:
            broken = found.n == 1 and found.prev != FIRST_PREV
            return found, "entry 1 was changed" if broken else ""
        if found.n != before.n + 1:
            return found, f"entry {before.n} is followed by entry {found.n}"
        return found, "" if found.prev == before.hash else f"entry {found.n} does not follow from entry {before.n}"
