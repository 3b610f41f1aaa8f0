"""All that the store keeps about one model: where it stands, what answers, what it drives towards. Values, pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Literal

import msgspec

from edged.delivery.documents import Want, Watching
from edged.delivery.want import Seen
from edged.errors import Fault

Ended = Literal["active", "rejected", "failed", "rolled_back"]


class Phase(enum.Enum):
    """Where a model stands; the words are those of docs/model-push.md."""

    IDLE = "idle"
    OFFERED = "offered"
    DOWNLOADING = "downloading"
    VERIFIED = "verified"
    TRIAL = "trial"
    PROBATION = "probation"


WITH_CANDIDATE = frozenset({Phase.DOWNLOADING, Phase.VERIFIED, Phase.TRIAL})


class Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """A version on this box. `sha256` and `size` are the model file's. `factory`: the file that the configuration
    names, whatever it holds now. `release`: the hash of its signed document, "" for a simple push; `signers` are
    the keys that counted when it came.
    """

    version: int
    sha256: str
    size: int = 0
    factory: bool = False
    release: str = ""
    signers: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name of its folder, and what it is remembered by: one model file may be in several releases."""
        return self.release or self.sha256


class Watched(msgspec.Struct, frozen=True):
    """What probation has seen so far; survives a restart of the daemon. Counts of the model's own faults."""

    elapsed_s: float = 0.0
    runs: int = 0
    faults: int = 0
    nonfinite: int = 0
    crashes: int = 0

    @property
    def bad(self) -> int:
        return self.faults + self.nonfinite + self.crashes


class Baseline(msgspec.Struct, frozen=True):
    """How the release before behaved, to judge the new one by. `cpu_s` is the median per input, 0 unknown."""

    runs: int = 0
    bad: int = 0
    cpu_s: float = 0.0


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the last push ended, and which one that was."""

    verdict: Ended
    version: int
    sha256: str
    fault: Fault | None = None
    flags: tuple[str, ...] = ()
    release: str = ""


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the box drives towards: a want that it took, or root's word, which has no want.

    `document` is the want's hash; `signers` the keys that counted when it came; `by` who gave it, for the audit.
    """

    release: str
    version: int = 0
    want: Want | None = None
    document: str = ""
    signers: tuple[str, ...] = ()
    by: str = ""
    released: bool = False  # a person has let it go on, whatever push.install says


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person holds the model against every want. `pinned`: at its version, so against simple pushes too."""

    by: str
    pinned: bool = False

    @property
    def told(self) -> str:
        return f"{self.by} holds the model {'at its version' if self.pinned else 'against wants'}"


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that the store keeps about one model. `active` None: the factory model, where there is one.

    `highest` is the highest version seen; `blacklist` says which releases failed here, by key, and how.
    `order` is in force until it is reached or another takes its place; `done` that it has had its verdict.
    `seen` is the highest place of all orders that came. `watching` is what the want of the release on probation says
    of it. `held` says who holds the model, None for nobody. `leaving` is a release that a signed undo
    takes back, until that is done. `arrived`: a release brought the model, and no configuration names it.
    """

    phase: Phase = Phase.IDLE
    active: Stored | None = None
    previous: Stored | None = None
    candidate: Stored | None = None
    trial_attempts: int = 0
    attempts: int = 0
    watched: Watched = Watched()
    watching: Watching = Watching()
    baseline: Baseline = Baseline()
    blacklist: dict[str, Fault] = {}
    highest: int = 0
    flags: tuple[str, ...] = ()
    last: Verdict | None = None
    order: Order | None = None
    done: bool = False
    seen: Seen = Seen()
    held: Held | None = None
    leaving: str = ""
    arrived: bool = False

    @property
    def wanted(self) -> Order | None:
        """The order that the box still has to follow."""
        return None if self.done else self.order

    @property
    def leaves(self) -> bool:
        """Whether what answers is taken back by a signed undo."""
        return bool(self.leaving) and self.active is not None and self.active.release == self.leaving

    def stored(self) -> Iterator[Stored]:
        """Every version that the record names."""
        for one in (self.active, self.previous, self.candidate):
            if one is not None:
                yield one

    def needs(self) -> set[str]:
        """The keys whose folders must stay on disk."""
        return {one.key for one in self.stored() if not one.factory}

    def check(self) -> None:
        """Raises ValueError for a record that no event can have made."""
        if self.phase is Phase.OFFERED:
            raise ValueError("an offered file is never recorded")
        if (self.phase in WITH_CANDIDATE) != (self.candidate is not None):
            raise ValueError("a trial has a candidate, and nothing else has")
        if self.phase is Phase.PROBATION and (self.active is None or self.active.factory):
            raise ValueError("nothing on probation")
