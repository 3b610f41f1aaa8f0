"""The table and what each event makes of a record."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.delivery import rollout, verdicts
from edged.delivery.documents import Want
from edged.delivery.record import Baseline, Order, Phase, Record, Stored, Verdict, Watched
from edged.delivery.rollout import TABLE, Action, Event, Illegal
from edged.delivery.want import Seen
from edged.errors import CODES, fault

ONE, TWO, THREE = (Stored(version, f"{version:064x}", 10) for version in (1, 2, 3))
BAD = fault("nonfinite", "NaN")
WHY = fault("undone", "somebody went back")


def on_trial() -> Record:
    return rollout.staged(Record(active=ONE, highest=1), TWO)


def on_probation() -> Record:
    return rollout.passed(on_trial(), ONE, Baseline())


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_can_be_left_and_reached(phase: Phase) -> None:
    assert any(start is phase for start, _ in TABLE)
    assert any(target is phase for target, _ in TABLE.values())


@pytest.mark.parametrize("phase", Phase)
def test_a_push_is_allowed_in_every_phase(phase: Phase) -> None:
    assert rollout.action(phase, Event.PUSHED) in {Action.STAGE, Action.CANCEL, Action.QUEUE}


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.OFFERED])
def test_a_restart_is_foreseen_in_every_phase_that_is_recorded(phase: Phase) -> None:
    assert (phase, Event.RESTARTED) in TABLE


def test_an_event_that_cannot_happen_is_refused() -> None:
    with pytest.raises(Illegal, match="passed in idle"):
        rollout.action(Phase.IDLE, Event.PASSED)
    with pytest.raises(Illegal):
        rollout.kept(on_trial())


def test_a_trial_counts_before_it_begins() -> None:
    record = on_trial()
    assert (record.phase, record.candidate, record.trial_attempts, record.highest) == (Phase.TRIAL, TWO, 1, 2)
    assert record.active == ONE


def test_the_commit_point_names_both_releases() -> None:
    record = rollout.passed(on_trial(), ONE, Baseline(runs=5), ("untested",))
    assert (record.phase, record.active, record.previous, record.candidate) == (Phase.PROBATION, TWO, ONE, None)
    assert record.needs() == {ONE.sha256, TWO.sha256}


def test_a_kept_release_leaves_the_previous_one_to_go_back_to() -> None:
    record = rollout.kept(rollout.passed(on_trial(), ONE, Baseline(), ("untested",)), ("untested_live",))
    assert (record.phase, record.active, record.previous) == (Phase.IDLE, TWO, ONE)
    assert record.last is not None
    assert (record.last.verdict, record.last.flags) == ("active", ("untested", "untested_live"))


def test_a_failed_trial_leaves_the_live_one_and_is_remembered() -> None:
    record = rollout.failed(on_trial(), BAD)
    assert (record.phase, record.active, record.candidate) == (Phase.IDLE, ONE, None)
    assert record.blacklist == {TWO.sha256: BAD}
    assert record.last is not None
    assert record.last.verdict == "failed"


@pytest.mark.parametrize("code", ["no_space", "superseded", "io_mismatch", "bad_store"])
def test_what_is_not_the_files_doing_is_not_held_against_it(code: str) -> None:
    assert rollout.failed(on_trial(), fault(code, "")).blacklist == {}


def test_a_faulted_release_is_left_for_good() -> None:
    record = rollout.faulted(on_probation(), BAD, ONE)
    assert (record.phase, record.active, record.previous, record.attempts) == (Phase.IDLE, ONE, None, 0)
    assert TWO.sha256 in record.blacklist
    assert record.last is not None
    assert (record.last.verdict, record.last.sha256) == ("rolled_back", TWO.sha256)


@pytest.mark.parametrize("record", [on_probation(), rollout.kept(on_probation())])
def test_an_operator_may_go_back_and_forth(record: Record) -> None:
    back = rollout.undone(record, ONE, TWO, WHY, None)
    assert (back.phase, back.active, back.previous, back.blacklist) == (Phase.IDLE, ONE, TWO, {})
    forth = rollout.undone(back, TWO, ONE, WHY, None)
    assert (forth.active, forth.previous) == (TWO, ONE)


def test_the_third_start_in_a_trial_gives_up() -> None:
    first, event = rollout.restarted(on_trial())
    assert (event, first.trial_attempts) == (Event.RESTARTED, 2)
    assert rollout.restarted(first)[1] is Event.WORN_OUT


def test_the_fourth_load_on_probation_is_not_made() -> None:
    record, events = on_probation(), []
    for _ in range(3):
        record, event = rollout.restarted(record)
        events.append(event)
    assert events == [Event.RESTARTED, Event.RESTARTED, Event.WORN_OUT]


@pytest.mark.parametrize("record", [on_trial(), on_probation()])
def test_a_clean_stop_costs_nothing(record: Record) -> None:
    for _ in range(10):
        record, event = rollout.restarted(rollout.stopped(record))
        assert event is Event.RESTARTED


def test_a_restart_forgets_what_the_boxs_limits_decided() -> None:
    slow, broken = fault("too_slow", ""), fault("trial_crash", "")
    record, _ = rollout.restarted(Record(blacklist={"a" * 64: slow, "b" * 64: broken}))
    assert record.blacklist == {"b" * 64: broken}


def test_only_the_newest_failures_are_remembered() -> None:
    record = Record(active=ONE)
    for version in range(2, 2 + 2 * verdicts.REMEMBERED):
        record = rollout.failed(rollout.staged(record, Stored(version, f"{version:064x}")), BAD)
    assert len(record.blacklist) == verdicts.REMEMBERED
    assert f"{1 + 2 * verdicts.REMEMBERED:064x}" in record.blacklist


def test_codes_with_a_meaning_here_exist() -> None:
    assert (
        set(CODES) >= verdicts._REJECTIONS | verdicts._FORGIVEN | verdicts.LIMITS | verdicts.GIVEN_UP | verdicts.RESUMED
    )


@pytest.mark.parametrize(
    "record",
    [
        Record(phase=Phase.OFFERED),
        Record(phase=Phase.TRIAL),
        Record(phase=Phase.IDLE, candidate=ONE),
        Record(phase=Phase.PROBATION),
        Record(phase=Phase.PROBATION, active=msgspec.structs.replace(ONE, factory=True)),
    ],
)
def test_a_record_that_no_event_makes_is_refused(record: Record) -> None:
    with pytest.raises(ValueError, match=r"."):
        record.check()


OWN = ["push", "pass", "fail", "keep", "fault", "undo", "restart", "stop"]
SIGNED = ["order", "retry", "note", "approve", "block", "fetch", "due", "leave", "supersede"]
EVENTS = st.lists(st.sampled_from(OWN + SIGNED), max_size=40)


@given(EVENTS)
def test_no_course_of_events_makes_an_impossible_record(events: list[str]) -> None:
    record = Record(highest=1)
    for event in events:
        try:
            record = _apply(record, event)
        except Illegal:
            continue
        record.check()
        assert msgspec.json.decode(msgspec.json.encode(record), type=Record) == record
        assert record.active is None or record.active.key not in record.blacklist
        assert record.wanted is None or record.phase in {Phase.IDLE, Phase.PROBATION} or record.candidate is not None


def _apply(record: Record, event: str) -> Record:
    return _signed(record, event) if event in SIGNED else _own(record, event)


def _signed(record: Record, event: str) -> Record:
    seq = record.seen.seq + 1
    seen, release = Seen(0, seq, f"{seq:064x}", seq), f"{record.highest + 1:064x}"
    match event:
        case "order" | "retry":
            want = Want(model="m", to="all", seq=seq, issued=seq, expires=seq, release=release, version=1)
            want = msgspec.structs.replace(want, retry=event == "retry")
            return rollout.ordered(record, Order(release, 1, want, seen.sha256, ("a",), "somebody"), seen)
        case "note":
            return rollout.noted(record, seen)
        case "approve" if record.phase is Phase.IDLE and record.wanted is not None:
            release = record.wanted.release
            if release in record.blacklist:
                return rollout.answered(record, Verdict("rejected", 1, "", BAD))
            return rollout.approved(record, Stored(record.highest + 1, f"{seq:064x}", release=release))
        case "block":
            return rollout.blocked(record)
        case "fetch":
            return rollout.fetched(record)
        case "due":
            return rollout.due(record)
        case "leave" if record.active is not None:
            return rollout.leaving(record, record.active.release, seen, WHY)
        case "supersede":
            return rollout.failed(record, fault("superseded", "a newer one came"))
    return record


def _own(record: Record, event: str) -> Record:
    match event:
        case "push" if record.phase is Phase.IDLE:
            version = record.highest + 1
            return rollout.staged(record, Stored(version, f"{version:064x}"))
        case "pass":
            return rollout.passed(record, record.active, Baseline())
        case "fail":
            return rollout.failed(record, BAD)
        case "keep":
            return rollout.kept(msgspec.structs.replace(record, watched=Watched(runs=3)))
        case "fault":
            return rollout.faulted(record, BAD, record.previous)
        case "undo" if record.previous is not None and record.active is not None:
            return rollout.undone(record, record.previous, record.active, WHY, None)
        case "stop" if record.phase is not Phase.IDLE:
            return rollout.stopped(record)
        case "restart":
            found, what = rollout.restarted(record)
            if what is Event.WORN_OUT and found.phase is Phase.TRIAL:
                return rollout.failed(found, fault("trial_crash_loop", ""))
            if what is Event.WORN_OUT:
                return rollout.faulted(found, BAD, found.previous)
            return found
    return record


def test_the_word_of_root_takes_no_place_away_that_was_seen_meanwhile() -> None:
    newest = Seen(1, 9, "a" * 64)
    record = rollout.ordered(Record(seen=newest), Order("b" * 64, by="root"), Seen(1, 7, "c" * 64))
    assert record.seen == newest
