"""What `edged/<device>/install/<model>` says: one JSON object per phase change. Pure."""

from __future__ import annotations

import msgspec

from edged.config.schema import Push
from edged.delivery import probation
from edged.delivery.rollout import Phase, Record, Stored, Verdict
from edged.delivery.trial import Figures

UNSIGNED_OK = "unsigned_ok"


class Subject(msgspec.Struct, frozen=True):
    """The push that a status is about; "" and 0 where nobody has looked that far."""

    sha256: str = ""
    version: int = 0
    size: int = 0


class Course(msgspec.Struct, frozen=True):
    """What memory adds to a record: the phase as it is now, what it is about, a trial's figures."""

    phase: Phase
    subject: Subject = Subject()
    verdict: Verdict | None = None
    figures: Figures | None = None
    flags: tuple[str, ...] = ()


def status(record: Record, course: Course, factory: Stored | None, settings: Push) -> dict[str, object]:
    """The status document. Versions are text, as everywhere; sizes are bytes, `left_s` seconds."""
    verdict = course.verdict
    problem = verdict.fault if verdict else None
    flags = dict.fromkeys([*record.flags, *(verdict.flags if verdict else ()), *course.flags])
    if not settings.require_signature:
        flags[UNSIGNED_OK] = None
    return {
        "phase": course.phase.value,
        "verdict": verdict.verdict if verdict else None,
        "code": problem.code if problem else None,
        "message": problem.message if problem else "",
        "hint": problem.hint if problem else "",
        "active": _release(record.active or factory),
        "previous": _release(record.previous),
        "candidate": _release(record.candidate),
        "push": {"version": str(course.subject.version or ""), "sha256": course.subject.sha256},
        "bytes": course.subject.size,
        "trial": msgspec.to_builtins(course.figures) if course.figures else None,
        "probation": _probation(record, settings) if course.phase is Phase.PROBATION else None,
        "flags": list(flags),
    }


def _release(stored: Stored | None) -> dict[str, object] | None:
    return {"version": str(stored.version), "sha256": stored.sha256} if stored else None


def _probation(record: Record, settings: Push) -> dict[str, object]:
    watched = record.watched
    return {
        "runs": watched.runs,
        "runs_wanted": settings.probation.runs,
        "faults": watched.bad,
        "left_s": round(probation.left_s(settings.probation, watched), 1),
    }
