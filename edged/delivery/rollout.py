"""What may happen to a pushed model, and when: the state machine of one model as a literal table.

The rules, which the table spells out:

1. One candidate at a time. A push, or a want for another release, takes its place while it is fetched, waits or is
   tried; during probation it waits until that has ended, and of several that wait the newest is the one that counts.
2. `offered` lives in memory only. A push's bytes are nowhere else; a want is in the record, which drives towards it.
   Every other phase is in the store before anything is done about it: a restart finds what to do by the phase alone.
3. The live model is untouched until PASSED is in the store. That write is the commit point: before it
   a restart serves the old release, after it the new one.
4. A trial that the daemon did not live to finish is begun again once; the second unfinished trial fails.
   A release on probation is loaded by three starts of the daemon at most. A clean stop costs neither.
5. A release that failed is remembered and not tried again, but for a want that says `retry`. What the limits of this
   box decided (too slow, over memory) is forgotten at a restart, which may have brought other limits.
6. Going back loads nothing when the previous release is still warm, and happens even when the store
   cannot be written: a restart then finds the probation and goes back again.
7. A want is in force until its release is live or has had its verdict. What only stands in the way for now (no room,
   not its hour, held by a person) ends nothing: it is told as `waiting`, which is no phase of its own. Where it is
   for other boxes by now, because this one's name or groups have changed, it ends until its trial; a trial goes on.

Pure: no file, no clock, no process. The diagram in docs/model-push.md is made from TABLE.
"""

from __future__ import annotations

import enum
from collections.abc import Container
from typing import Final

import msgspec

from edged.delivery import verdicts
from edged.delivery.documents import Watching
from edged.delivery.record import Baseline, Ended, Held, Order, Phase, Record, Stored, Verdict, Watched
from edged.delivery.want import Seen
from edged.errors import Fault

TRIALS: Final = 2
LOADS: Final = 3  # of a release on probation; RAUC's default number of boot attempts


class Event(enum.Enum):
    """What happened."""

    PUSHED = "pushed"
    ORDERED = "ordered"
    REFUSED = "refused"
    BLOCKED = "blocked"
    APPROVED = "approved"
    FETCHED = "fetched"
    DUE = "due"
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
    LOOK_UP = "fetch and check its document"
    FETCH = "fetch its files"
    HOLD = "wait for its time"
    WAIT = "try again later"
    QUEUE = "keep the newest for later"
    CANCEL = "give up the candidate"
    TRY = "try it"
    DROP = "end its process, drop its files"
    SWITCH = "switch to it, keep the old one warm"
    WATCH = "watch it"
    KEEP = "end the old process"
    GO_BACK = "switch to the previous release"


TABLE: Final[dict[tuple[Phase, Event], tuple[Phase, Action]]] = {
    (Phase.IDLE, Event.PUSHED): (Phase.OFFERED, Action.STAGE),
    (Phase.IDLE, Event.ORDERED): (Phase.OFFERED, Action.LOOK_UP),
    (Phase.IDLE, Event.UNDONE): (Phase.IDLE, Action.GO_BACK),
    (Phase.IDLE, Event.FAULTED): (Phase.IDLE, Action.GO_BACK),
    (Phase.IDLE, Event.RESTARTED): (Phase.IDLE, Action.SERVE),
    (Phase.OFFERED, Event.PUSHED): (Phase.OFFERED, Action.STAGE),
    (Phase.OFFERED, Event.ORDERED): (Phase.OFFERED, Action.LOOK_UP),
    (Phase.OFFERED, Event.REFUSED): (Phase.IDLE, Action.DROP),
    (Phase.OFFERED, Event.BLOCKED): (Phase.IDLE, Action.WAIT),
    (Phase.OFFERED, Event.STAGED): (Phase.TRIAL, Action.TRY),
    (Phase.OFFERED, Event.APPROVED): (Phase.DOWNLOADING, Action.FETCH),
    (Phase.DOWNLOADING, Event.PUSHED): (Phase.DOWNLOADING, Action.CANCEL),
    (Phase.DOWNLOADING, Event.ORDERED): (Phase.DOWNLOADING, Action.CANCEL),
    (Phase.DOWNLOADING, Event.SUPERSEDED): (Phase.IDLE, Action.DROP),
    (Phase.DOWNLOADING, Event.FAILED): (Phase.IDLE, Action.DROP),
    (Phase.DOWNLOADING, Event.BLOCKED): (Phase.IDLE, Action.WAIT),
    (Phase.DOWNLOADING, Event.FAULTED): (Phase.DOWNLOADING, Action.GO_BACK),
    (Phase.DOWNLOADING, Event.RESTARTED): (Phase.DOWNLOADING, Action.FETCH),
    (Phase.DOWNLOADING, Event.FETCHED): (Phase.VERIFIED, Action.HOLD),
    (Phase.VERIFIED, Event.PUSHED): (Phase.VERIFIED, Action.CANCEL),
    (Phase.VERIFIED, Event.ORDERED): (Phase.VERIFIED, Action.CANCEL),
    (Phase.VERIFIED, Event.SUPERSEDED): (Phase.IDLE, Action.DROP),
    (Phase.VERIFIED, Event.FAILED): (Phase.IDLE, Action.DROP),
    (Phase.VERIFIED, Event.FAULTED): (Phase.VERIFIED, Action.GO_BACK),
    (Phase.VERIFIED, Event.RESTARTED): (Phase.VERIFIED, Action.HOLD),
    (Phase.VERIFIED, Event.DUE): (Phase.TRIAL, Action.TRY),
    (Phase.TRIAL, Event.PUSHED): (Phase.TRIAL, Action.CANCEL),
    (Phase.TRIAL, Event.ORDERED): (Phase.TRIAL, Action.CANCEL),
    (Phase.TRIAL, Event.SUPERSEDED): (Phase.IDLE, Action.DROP),
    (Phase.TRIAL, Event.FAILED): (Phase.IDLE, Action.DROP),
    (Phase.TRIAL, Event.BLOCKED): (Phase.VERIFIED, Action.HOLD),
    (Phase.TRIAL, Event.RESTARTED): (Phase.TRIAL, Action.TRY),
    (Phase.TRIAL, Event.WORN_OUT): (Phase.IDLE, Action.DROP),
    (Phase.TRIAL, Event.PASSED): (Phase.PROBATION, Action.SWITCH),
    (Phase.PROBATION, Event.PUSHED): (Phase.PROBATION, Action.QUEUE),
    (Phase.PROBATION, Event.ORDERED): (Phase.PROBATION, Action.QUEUE),
    (Phase.PROBATION, Event.RESTARTED): (Phase.PROBATION, Action.WATCH),
    (Phase.PROBATION, Event.KEPT): (Phase.IDLE, Action.KEEP),
    (Phase.PROBATION, Event.FAULTED): (Phase.IDLE, Action.GO_BACK),
    (Phase.PROBATION, Event.UNDONE): (Phase.IDLE, Action.GO_BACK),
    (Phase.PROBATION, Event.WORN_OUT): (Phase.IDLE, Action.GO_BACK),
}


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


def ordered(record: Record, order: Order, seen: Seen) -> Record:
    """Another order is in force; what is under way for another release is given up by whoever does it.

    A want with `retry` clears what was held against its release, and whoever held the model.
    """
    retry = order.want is None or order.want.retry
    blacklist = {key: why for key, why in record.blacklist.items() if not retry or key != order.release}
    held = None if retry else record.held
    seen = max(record.seen, seen, key=lambda one: one.place)  # root's word has no place, and takes none away
    return msgspec.structs.replace(record, order=order, done=False, seen=seen, blacklist=blacklist, held=held)


def noted(record: Record, seen: Seen) -> Record:
    """A want that is not for this box, or not yet, was seen all the same: nothing before it counts any more."""
    return msgspec.structs.replace(record, seen=seen)


def leaving(record: Record, release: str, seen: Seen, why: Fault) -> Record:
    """A signed undo: the box goes back from this release if it answers, and gives it up if it is on its way."""
    record = msgspec.structs.replace(record, seen=seen)
    if any(one is not None and one.release == release for one in (record.active, record.candidate)):
        return msgspec.structs.replace(record, leaving=release, done=True)
    order = record.wanted
    if order is None or order.release != release:
        return record
    return answered(record, Verdict("rejected", order.version, "", why, (), release))


def stays(record: Record) -> Record:
    """A signed undo that cannot be followed: there is nothing to go back to."""
    return msgspec.structs.replace(record, leaving="")


def answered(record: Record, verdict: Verdict) -> Record:
    """The order in force has its verdict without having been begun; one that came since has not."""
    if record.order is None or record.order.release != verdict.release:
        return record
    return msgspec.structs.replace(record, done=True, last=verdict)


def ended_by(record: Record, codes: Container[str]) -> bool:
    """Whether the order in force ended with a verdict of these codes: what decided it may decide otherwise by now."""
    order, last = record.order, record.last
    if order is None or not record.done or last is None or last.fault is None or last.release != order.release:
        return False
    return last.fault.code in codes


def reopened(record: Record) -> Record:
    """The order in force counts again."""
    return msgspec.structs.replace(record, done=False)


def approved(record: Record, candidate: Stored) -> Record:
    """The order's document is signed and fits: its files may be fetched."""
    phase = target(Phase.OFFERED, Event.APPROVED)
    highest = max(record.highest, candidate.version)
    return msgspec.structs.replace(record, phase=phase, candidate=candidate, highest=highest, last=None)


def blocked(record: Record) -> Record:
    """It cannot be fetched, or tried, now: the order stays, and what is whole on the disk."""
    phase = target(record.phase, Event.BLOCKED)
    candidate = record.candidate if phase is Phase.VERIFIED else None
    return msgspec.structs.replace(record, phase=phase, candidate=candidate, trial_attempts=0)


def fetched(record: Record) -> Record:
    """All files are on disk and whole."""
    return msgspec.structs.replace(record, phase=target(record.phase, Event.FETCHED))


def due(record: Record) -> Record:
    """Its trial may begin, and this attempt counts before it does."""
    return msgspec.structs.replace(record, phase=target(record.phase, Event.DUE), trial_attempts=1)


def staged(record: Record, candidate: Stored, before: Order | None = None) -> Record:
    """A pushed file is on disk: its trial may begin, and this attempt counts before it does.

    It is newer than the order `before`, whose say ends with it; an order that came since is newer than the push.
    """
    phase = target(Phase.OFFERED, Event.STAGED)
    return msgspec.structs.replace(
        record,
        phase=phase,
        candidate=candidate,
        trial_attempts=1,
        highest=max(record.highest, candidate.version),
        last=None,
        done=record.done or record.order == before,
    )


def failed(record: Record, problem: Fault, flags: tuple[str, ...] = ()) -> Record:
    """The candidate is given up: SUPERSEDED, FAILED or, after too many unfinished trials, WORN_OUT."""
    candidate = _candidate(record)
    event = Event.SUPERSEDED if problem.code in verdicts.GIVEN_UP else Event.FAILED
    phase = target(record.phase, event)
    return msgspec.structs.replace(
        record,
        phase=phase,
        candidate=None,
        leaving="" if record.leaving == candidate.release else record.leaving,
        trial_attempts=0,
        blacklist=verdicts.remember(record.blacklist, candidate.key, problem),
        last=Verdict(verdicts.ending(problem), candidate.version, candidate.sha256, problem, flags, candidate.release),
        done=record.done or (_is_of(record.order, candidate) and problem.code not in verdicts.RESUMED),
    )


def passed(record: Record, before: Stored | None, baseline: Baseline, flags: tuple[str, ...] = ()) -> Record:
    """The commit point. `before` is the release that answered until now, None when nothing did."""
    phase = target(record.phase, Event.PASSED)
    candidate, want = _candidate(record), record.order.want if record.order else None
    return msgspec.structs.replace(
        record,
        phase=phase,
        active=candidate,
        previous=before,
        candidate=None,
        trial_attempts=0,
        attempts=1,
        watched=Watched(),
        watching=want.probation if want is not None and _is_of(record.order, candidate) else Watching(),
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
        last=Verdict(ended, active.version, active.sha256, problem, record.flags + flags, active.release),
        done=record.done or _is_of(record.order, active),
    )


def faulted(record: Record, problem: Fault, back_to: Stored | None) -> Record:
    """Probation went badly, was cut short too often, or the release is banned: to `back_to`, None for nothing."""
    phase = target(record.phase, Event.FAULTED)
    bad = _active(record)
    return msgspec.structs.replace(
        record,
        phase=phase,
        active=back_to,
        previous=None,
        attempts=0,
        flags=(),
        leaving="",
        blacklist=verdicts.remember(record.blacklist, bad.key, problem),
        last=Verdict("rolled_back", bad.version, bad.sha256, problem, record.flags, bad.release),
        done=record.done or _is_of(record.order, bad),
    )


def undone(record: Record, back_to: Stored, now: Stored, why: Fault, held: Held | None) -> Record:
    """A person goes back from `now`: not the release's fault, so it may be gone forward to again.

    `held` by whoever did it on the box; an undo that came signed ends the order instead.
    """
    phase = target(record.phase, Event.UNDONE)
    return msgspec.structs.replace(
        record,
        phase=phase,
        active=back_to,
        previous=now,
        attempts=0,
        flags=(),
        last=Verdict("rolled_back", now.version, now.sha256, why, (), now.release),
        held=held or record.held,
        leaving="",
        done=record.done or (held is None and _is_of(record.order, now)),
    )


def lost(record: Record, problem: Fault, back_to: Stored | None) -> Record:
    """The active release's file is missing or damaged; `back_to` is what is left, None for nothing."""
    gone = _active(record)
    return msgspec.structs.replace(
        record,
        active=back_to,
        previous=None,
        last=Verdict("rolled_back", gone.version, gone.sha256, problem, (), gone.release),
        done=record.done and not _is_of(record.order, gone),  # the fleet still wants it: it is fetched again
    )


def restarted(record: Record) -> tuple[Record, Event]:
    """What a start of the daemon makes of the record it finds: counts the attempt, or says WORN_OUT."""
    record = msgspec.structs.replace(
        record, blacklist={sha: why for sha, why in record.blacklist.items() if why.code not in verdicts.LIMITS}
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


def _candidate(record: Record) -> Stored:
    if record.candidate is None:
        raise Illegal("no candidate")
    return record.candidate


def _active(record: Record) -> Stored:
    if record.active is None:
        raise Illegal("nothing on probation")
    return record.active


def _is_of(order: Order | None, one: Stored) -> bool:
    """Whether this version is what the order asks for."""
    return order is not None and bool(one.release) and order.release == one.release


def diagram() -> str:
    """TABLE as a Mermaid state diagram, for docs/model-push.md."""
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.IDLE.value}"]
    lines += [
        f"    {phase.value} --> {target.value}: {event.value} / {what.value}"
        for (phase, event), (target, what) in TABLE.items()
    ]
    return "\n".join(lines)
