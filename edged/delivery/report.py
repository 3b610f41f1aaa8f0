"""What `edged/<device>/install/<model>` says: one JSON object per phase change. Pure."""

from __future__ import annotations

import msgspec

from edged.config.schema import Push
from edged.delivery import probation
from edged.delivery.record import Held, Phase, Record, Stored, Verdict
from edged.delivery.trial import Figures
from edged.errors import Fault

UNSIGNED_OK = "unsigned_ok"
CLOCK_UNSYNCED = "clock_unsynced"
UNTRUSTED_ACTIVE = "untrusted_active"
DOWNLOADED = "downloaded"
WAITING = "waiting"


class Subject(msgspec.Struct, frozen=True):
    """The push that a status is about; "" and 0 where nobody has looked that far. `release`: of a signed one."""

    sha256: str = ""
    version: int = 0
    size: int = 0
    release: str = ""


class Loaded(msgspec.Struct, frozen=True):
    """How far a release has come, in bytes; chunks that were on this box already, and that came damaged."""

    total: int = 0
    have: int = 0
    reused: int = 0
    bad_chunks: int = 0


class Course(msgspec.Struct, frozen=True):
    """What memory adds to a record: the phase as it is now, what it is about, a trial's figures.

    `waiting`: why an order in force does not go on; it is told as a phase of its own.
    """

    phase: Phase
    subject: Subject = Subject()
    verdict: Verdict | None = None
    figures: Figures | None = None
    flags: tuple[str, ...] = ()
    waiting: Fault | None = None
    loaded: Loaded = Loaded()


class Standing(msgspec.Struct, frozen=True):
    """What is true of the model besides: older wants that came again, flags that the box has by itself, and why it
    refuses what lies on topics of wants, by whom these are for.
    """

    replays: int = 0
    flags: tuple[str, ...] = ()
    refused: dict[str, str] = {}


def status(
    record: Record, course: Course, factory: Stored | None, settings: Push, standing: Standing
) -> dict[str, object]:
    """The status document. Versions are text, as everywhere; sizes are bytes, `left_s` seconds."""
    verdict = None if course.waiting else course.verdict
    problem = course.waiting or (verdict.fault if verdict else None)
    flags = dict.fromkeys([*record.flags, *(verdict.flags if verdict else ()), *course.flags, *standing.flags])
    if not settings.require_signature:
        flags[UNSIGNED_OK] = None
    subject = course.subject
    return {
        "phase": WAITING if course.waiting else course.phase.value,
        "verdict": verdict.verdict if verdict else None,
        "code": problem.code if problem else None,
        "message": problem.message if problem else "",
        "hint": problem.hint if problem else "",
        "active": _release(record.active or factory),
        "previous": _release(record.previous),
        "candidate": _release(record.candidate),
        "push": {"version": str(subject.version or ""), "sha256": subject.sha256, "release": subject.release},
        "want": _want(record),
        "held": _held(record.held),
        "bytes": subject.size,
        "bytes_have": course.loaded.have,
        "bytes_total": course.loaded.total,
        "chunks_reused": course.loaded.reused,
        "bad_chunks": course.loaded.bad_chunks,
        "replays": standing.replays,
        "refused": standing.refused,
        "trial": msgspec.to_builtins(course.figures) if course.figures else None,
        "probation": _probation(record, settings) if course.phase is Phase.PROBATION else None,
        "flags": list(flags),
    }


def _release(stored: Stored | None) -> dict[str, object] | None:
    if stored is None:
        return None
    return {"version": str(stored.version), "sha256": stored.sha256, "release": stored.release}


def _want(record: Record) -> dict[str, object] | None:
    """The order in force, or the last one. Without `seq` it is root's word, and `seen` the place that it came after."""
    order = record.order
    if order is None:
        return None
    want = order.want
    told: dict[str, object] = {"release": order.release, "version": str(order.version or ""), "signers": order.signers}
    if want is not None:
        told |= {"epoch": want.epoch, "seq": want.seq, "to": want.to, "action": want.action}
    else:
        told["seen"] = {"epoch": record.seen.epoch, "seq": record.seen.seq}
    return told


def _held(held: Held | None) -> dict[str, object] | None:
    return {"by": held.by, "pinned": held.pinned} if held else None


def _probation(record: Record, settings: Push) -> dict[str, object]:
    watched, rules = record.watched, probation.overlaid(settings.probation, record.watching)
    return {
        "runs": watched.runs,
        "runs_wanted": rules.runs,
        "faults": watched.bad,
        "left_s": round(probation.left_s(rules, watched), 1),
        "most_s": round(probation.most_s(rules, watched), 1),
    }
