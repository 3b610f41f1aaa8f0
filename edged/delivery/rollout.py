"""What may happen to a pushed model, and when: the state machine of one model as a literal table.

The rules, which the table spells out:

1. One candidate at a time. A push during a trial takes its place; a push during probation waits until
   probation has ended, and of several that wait the newest is the one that counts.
2. `offered` lives in memory only: its bytes are nowhere else. Every other phase is in the store before
   anything is done about it, so a restart finds what to do by the phase alone.
3. The live model is untouched until PASSED is in the store. That write is the commit point: before it
   a restart serves the old release, after it the new one.
4. A trial that the daemon did not live to finish is begun again once; the second unfinished trial fails.
   A release on probation is loaded by three starts of the daemon at most. A clean stop costs neither.
5. A release that failed is remembered by its hash and not tried again. What the limits of this box
   decided (too slow, over memory) is forgotten at a restart, which may have brought other limits.
6. Going back loads nothing when the previous release is still warm, and happens even when the store
   cannot be written: a restart then finds the probation and goes back again.

Pure: no file, no clock, no process. The diagram in docs/model-push.md is made from TABLE.
"""

from __future__ import annotations

import enum
from typing import Final, Literal

import msgspec

from edged.errors import Fault, fault

TRIALS: Final = 2
LOADS: Final = 3  # of a release on probation; RAUC's default number of boot attempts
REMEMBERED: Final = 64  # failed releases, the newest

Ended = Literal["active", "rejected", "failed", "rolled_back"]


class Phase(enum.Enum):
    """Where a model stands; the words are those of docs/model-push.md."""

    IDLE = "idle"
    OFFERED = "offered"
    TRIAL = "trial"
    PROBATION = "probation"


class Event(enum.Enum):
    """What happened."""

    PUSHED = "pushed"
    REFUSED = "refused"
    STAGED = "staged"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    PASSED = "passed"
    KEPT = "kept"
    FAULTED = "faulted"
    UNDONE = "undone"
    RESTARTED = "restarted"
    WORN_OUT = "worn out"


class Action(enum.Enum):
    """What the installer does about it, once the new phase is in the store."""

    SERVE = "serve the active release"
    STAGE = "check and store the file"
    QUEUE = "keep the newest for later"
    CANCEL = "stop the trial"
    TRY = "try it"
    DROP = "end its process, drop its file"
    SWITCH = "switch to it, keep the old one warm"
    WATCH = "watch it"
    KEEP = "end the old process"
    GO_BACK = "switch to the previous release"


TABLE: Final[dict[tuple[Phase, Event], tuple[Phase, Action]]] = {
    (Phase.IDLE, Event.PUSHED): (Phase.OFFERED, Action.STAGE),
    (Phase.IDLE, Event.UNDONE): (Phase.IDLE, Action.GO_BACK),
    (Phase.IDLE, Event.RESTARTED): (Phase.IDLE, Action.SERVE),
    (Phase.OFFERED, Event.PUSHED): (Phase.OFFERED, Action.STAGE),
    (Phase.OFFERED, Event.REFUSED): (Phase.IDLE, Action.DROP),
    (Phase.OFFERED, Event.STAGED): (Phase.TRIAL, Action.TRY),
    (Phase.TRIAL, Event.PUSHED): (Phase.TRIAL, Action.CANCEL),
    (Phase.TRIAL, Event.SUPERSEDED): (Phase.IDLE, Action.DROP),
    (Phase.TRIAL, Event.FAILED): (Phase.IDLE, Action.DROP),
    (Phase.TRIAL, Event.RESTARTED): (Phase.TRIAL, Action.TRY),
    (Phase.TRIAL, Event.WORN_OUT): (Phase.IDLE, Action.DROP),
    (Phase.TRIAL, Event.PASSED): (Phase.PROBATION, Action.SWITCH),
    (Phase.PROBATION, Event.PUSHED): (Phase.PROBATION, Action.QUEUE),
    (Phase.PROBATION, Event.RESTARTED): (Phase.PROBATION, Action.WATCH),
    (Phase.PROBATION, Event.KEPT): (Phase.IDLE, Action.KEEP),
    (Phase.PROBATION, Event.FAULTED): (Phase.IDLE, Action.GO_BACK),
    (Phase.PROBATION, Event.UNDONE): (Phase.IDLE, Action.GO_BACK),
    (Phase.PROBATION, Event.WORN_OUT): (Phase.IDLE, Action.GO_BACK),
}

# Verdicts on the file as it came; every other code is the outcome of a trial.
_REJECTIONS: Final = frozenset(
    {"unsigned", "retained_push", "bad_version", "too_large", "no_space", "not_a_model", "io_mismatch", "superseded"}
    | {"unknown_model", "unsupported", "busy"}
)
# Not the file's doing, or true only of the moment: such a release may come again.
_FORGIVEN: Final = frozenset(
    {
        "no_space",
        "superseded",
        "io_mismatch",
        "unsupported",
        "bad_store",
        "internal",
        "stopping",
        "busy",
        "model_failed",
    }
)
_LIMITS: Final = frozenset({"too_slow", "over_memory", "probation_latency"})


class Stored(msgspec.Struct, frozen=True):
    """A release by its hash. `factory`: the file that the configuration names, whatever it holds now."""

    version: int
    sha256: str
    size: int = 0
    factory: bool = False


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


class Verdict(msgspec.Struct, frozen=True):
    """How the last push ended, and which one that was."""

    verdict: Ended
    version: int
    sha256: str
    fault: Fault | None = None
    flags: tuple[str, ...] = ()


class Record(msgspec.Struct, frozen=True):
    """All that the store keeps about one model. `active` None: the factory model, where there is one.

    `highest` is the highest version seen; `blacklist` says which hashes failed here, and how.
    """

    phase: Phase = Phase.IDLE
    active: Stored | None = None
    previous: Stored | None = None
    candidate: Stored | None = None
    trial_attempts: int = 0
    attempts: int = 0
    watched: Watched = Watched()
    baseline: Baseline = Baseline()
    blacklist: dict[str, Fault] = {}
    highest: int = 0
    flags: tuple[str, ...] = ()
    last: Verdict | None = None

    def needs(self) -> set[str]:
        """The hashes whose files must stay on disk."""
        kept = (self.active, self.previous, self.candidate)
        return {one.sha256 for one in kept if one is not None and not one.factory}

    def check(self) -> None:
        """Raises ValueError for a record that no event can have made."""
        if self.phase is Phase.OFFERED:
            raise ValueError("an offered file is never recorded")
        if (self.phase is Phase.TRIAL) != (self.candidate is not None):
            raise ValueError("a trial has a candidate, and nothing else has")
        if self.phase is Phase.PROBATION and (self.active is None or self.active.factory):
            raise ValueError("nothing on probation")


class Illegal(Exception):
    """An event that cannot happen in this phase: a mistake in edged."""


def action(phase: Phase, event: Event) -> Action:
    """What to do about `event` in `phase`; Illegal when the table has no such line."""
    return _line(phase, event)[1]


def target(phase: Phase, event: Event) -> Phase:
    """The phase after `event` in `phase`; Illegal when the table has no such line."""
    return _line(phase, event)[0]


def _line(phase: Phase, event: Event) -> tuple[Phase, Action]:
    if (phase, event) not in TABLE:
        raise Illegal(f"{event.value} in {phase.value}")
    return TABLE[phase, event]


# --- what each event makes of a record --------------------------------------------------------------


def staged(record: Record, candidate: Stored) -> Record:
    """A file is on disk: its trial may begin, and this attempt counts before it does."""
    phase = target(Phase.OFFERED, Event.STAGED)
    return msgspec.structs.replace(
        record,
        phase=phase,
        candidate=candidate,
        trial_attempts=1,
        highest=max(record.highest, candidate.version),
        last=None,
    )


def failed(record: Record, problem: Fault, flags: tuple[str, ...] = ()) -> Record:
    """The trial ended badly: SUPERSEDED, FAILED or, after too many unfinished ones, WORN_OUT."""
    candidate = _candidate(record)
    event = Event.SUPERSEDED if problem.code == "superseded" else Event.FAILED
    phase = target(record.phase, event)
    return msgspec.structs.replace(
        record,
        phase=phase,
        candidate=None,
        trial_attempts=0,
        blacklist=_remember(record.blacklist, candidate.sha256, problem),
        last=Verdict(ending(problem), candidate.version, candidate.sha256, problem, flags),
    )


def passed(record: Record, before: Stored | None, baseline: Baseline, flags: tuple[str, ...] = ()) -> Record:
    """The commit point. `before` is the release that answered until now, None when nothing did."""
    phase = target(record.phase, Event.PASSED)
    return msgspec.structs.replace(
        record,
        phase=phase,
        active=_candidate(record),
        previous=before,
        candidate=None,
        trial_attempts=0,
        attempts=1,
        watched=Watched(),
        baseline=baseline,
        flags=flags,
    )


def kept(record: Record, flags: tuple[str, ...] = (), problem: Fault | None = None) -> Record:
    """Probation is over and the release stays; with a `problem` only because there is nothing to go back to."""
    phase = target(record.phase, Event.KEPT)
    active = _active(record)
    ended: Ended = "active" if problem is None else "failed"
    return msgspec.structs.replace(
        record,
        phase=phase,
        attempts=0,
        flags=(),
        last=Verdict(ended, active.version, active.sha256, problem, record.flags + flags),
    )


def faulted(record: Record, problem: Fault, back_to: Stored | None) -> Record:
    """Probation went badly, or was cut short too often: back to `back_to`, None for nothing at all."""
    phase = target(record.phase, Event.FAULTED)
    bad = _active(record)
    return msgspec.structs.replace(
        record,
        phase=phase,
        active=back_to,
        previous=None,
        attempts=0,
        flags=(),
        blacklist=_remember(record.blacklist, bad.sha256, problem),
        last=Verdict("rolled_back", bad.version, bad.sha256, problem, record.flags),
    )


def undone(record: Record, back_to: Stored, now: Stored) -> Record:
    """The operator goes back from `now`: not the release's fault, so it may be gone forward to again."""
    phase = target(record.phase, Event.UNDONE)
    return msgspec.structs.replace(
        record,
        phase=phase,
        active=back_to,
        previous=now,
        attempts=0,
        flags=(),
        last=Verdict("rolled_back", now.version, now.sha256, fault("undone", "an operator went back from it")),
    )


def lost(record: Record, problem: Fault, back_to: Stored | None) -> Record:
    """The active release's file is missing or damaged; `back_to` is what is left, None for nothing."""
    gone = _active(record)
    return msgspec.structs.replace(
        record,
        active=back_to,
        previous=None,
        last=Verdict("rolled_back", gone.version, gone.sha256, problem),
    )


def restarted(record: Record) -> tuple[Record, Event]:
    """What a start of the daemon makes of the record it finds: counts the attempt, or says WORN_OUT."""
    record = msgspec.structs.replace(
        record, blacklist={sha: why for sha, why in record.blacklist.items() if why.code not in _LIMITS}
    )
    if record.phase is Phase.TRIAL:
        if record.trial_attempts >= TRIALS:
            return record, Event.WORN_OUT
        return msgspec.structs.replace(record, trial_attempts=record.trial_attempts + 1), Event.RESTARTED
    if record.phase is Phase.PROBATION:
        if record.attempts >= LOADS:
            return record, Event.WORN_OUT
        return msgspec.structs.replace(record, attempts=record.attempts + 1), Event.RESTARTED
    return record, Event.RESTARTED


def stopped(record: Record) -> Record:
    """A clean stop gives back the attempt that the next start will count."""
    return msgspec.structs.replace(
        record, trial_attempts=max(0, record.trial_attempts - 1), attempts=max(0, record.attempts - 1)
    )


def ending(problem: Fault) -> Ended:
    """The verdict that goes with a fault: the file was refused as it came, or it failed its trial."""
    return "rejected" if problem.code in _REJECTIONS else "failed"


def _candidate(record: Record) -> Stored:
    if record.candidate is None:
        raise Illegal("no candidate")
    return record.candidate


def _active(record: Record) -> Stored:
    if record.active is None:
        raise Illegal("nothing on probation")
    return record.active


def _remember(blacklist: dict[str, Fault], sha256: str, problem: Fault) -> dict[str, Fault]:
    if problem.code in _FORGIVEN:
        return blacklist
    entries = [(sha, why) for sha, why in blacklist.items() if sha != sha256]
    return dict([*entries, (sha256, problem)][-REMEMBERED:])


def diagram() -> str:
    """TABLE as a Mermaid state diagram, for docs/model-push.md."""
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.IDLE.value}"]
    lines += [
        f"    {phase.value} --> {target.value}: {event.value} / {what.value}"
        for (phase, event), (target, what) in TABLE.items()
    ]
    return "\n".join(lines)
