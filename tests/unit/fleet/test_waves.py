"""What a rollout does next: hawkBit's cases, and what the want on the broker alone has to tell after a kill."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.delivery.documents import Rollout, Undo, Want
from edged.delivery.want import takes_part
from edged.fleet import waves
from edged.fleet.view import Box, Fleet, Install, Model, Presence, Published, Version, Wanted
from edged.fleet.waves import End, Plan, Publish, Step, Target, Wait, exceeded, step

V1, V2 = Version("1", "1" * 64), Version("2", "2" * 64)
TARGET = Target("digits", "all", V2.release)
PLAN = Plan((1, 10, 50, 100), soak_s=600, max_fail=2, min_fail=2)
ISSUED = 1_700_000_000_000
LATER = ISSUED + 3_600_000

OLD = Install("idle", active=V1)
LIVE = Install("idle", "active", active=V2)
BUSY = Install("trial", active=V1, candidate=V2)
FAILED = Install("idle", "failed", "golden", active=V1, about=V2)


def box(name: str, install: Install = OLD, presence: Presence = "online", groups: Sequence[str] = ()) -> Box:
    return Box(name, presence, tuple(groups), models=(Model("digits", "serving", "1", install),))


def wanting(percent: float, *, seq: int = 100, to: str = "all", **rollout: object) -> Want:
    terms = msgspec.convert({"percent": percent, "salt": "s", **rollout}, Rollout)
    return Want("digits", to, seq, ISSUED, 10**15, V2.release, 2, rollout=terms)


def fleet(boxes: Iterable[Box], *orders: Want | Undo) -> Fleet:
    return Fleet(tuple(boxes), tuple(Published(one.model, one.to, one, b"") for one in orders))


def numbered(count: int, install: Install = OLD, first: int = 0) -> list[Box]:
    return [box(f"box-{number}", install) for number in range(first, first + count)]


def after(boxes: Iterable[Box], order: Want, *, now_ms: int = LATER, plan: Plan = PLAN, **how: bool) -> Step:
    return step(fleet(boxes, order), TARGET, plan, now_ms, **how)


# --- from wave to wave ----------------------------------------------------------------------------------


def test_a_rollout_begins_with_the_first_wave_and_a_salt_that_puts_a_box_into_it() -> None:
    boxes = numbered(100)
    first = step(fleet(boxes), TARGET, PLAN, LATER, fresh=True)
    assert isinstance(first, Publish)
    assert (first.percent, first.pause) == (1, False)
    assert sum(takes_part(Rollout(1, first.salt), one.name) for one in boxes) == 1
    assert step(fleet(boxes), TARGET, PLAN, LATER, fresh=True) == first


def test_a_wave_that_is_through_is_followed_by_the_next_with_the_same_salt() -> None:
    assert after(numbered(100, LIVE), wanting(10)) == Publish(50, "s", "goes on to 50 %")
    assert isinstance(end := after(numbered(100, LIVE), wanting(100)), End)
    assert end.ok


def test_a_wave_soaks_from_the_moment_its_want_was_signed() -> None:
    soaking = after(numbered(100, LIVE), wanting(10), now_ms=ISSUED + 599_000)
    assert isinstance(soaking, Wait)
    assert soaking.left_s == pytest.approx(1)
    assert isinstance(after(numbered(100, LIVE), wanting(10), now_ms=ISSUED + 600_000), Publish)
    ahead = after(numbered(100, LIVE), wanting(10), now_ms=ISSUED - 10**9)  # another operator's clock
    assert isinstance(ahead, Wait)
    assert ahead.left_s == 600


@pytest.mark.parametrize(("live", "follows"), [(89, False), (90, True)])
def test_nine_of_ten_online_boxes_are_enough(live: int, follows: bool) -> None:
    boxes = [*numbered(live, LIVE), *numbered(100 - live, BUSY, live)]
    assert isinstance(after(boxes, wanting(100)), End if follows else Wait)


def test_boxes_that_are_offline_are_not_waited_for_and_not_counted_as_done() -> None:
    away = [box(f"away-{number}", LIVE, "offline") for number in range(50)]
    through = after([*numbered(10, LIVE), *away], wanting(100))
    assert isinstance(through, End)
    assert (through.ok, str(through.wave)) == (True, "100 %: 10 of 60 done, 50 offline")
    waits = after([*numbered(1, BUSY), *away], wanting(100))
    assert isinstance(waits, Wait)
    assert waits.wave.done == 0


def test_a_plan_with_lower_waves_never_takes_boxes_away() -> None:
    end = after(numbered(100, LIVE), wanting(50), plan=Plan((1, 10), soak_s=0))
    assert isinstance(end, End)
    assert end.ok


@given(st.lists(st.floats(0, 100), min_size=2, max_size=2).map(sorted), st.text("abcdef-0123456789", min_size=1))
def test_raising_the_percent_only_adds_boxes(percents: list[float], name: str) -> None:
    low, high = (takes_part(Rollout(percent, "s"), name) for percent in percents)
    assert high or not low


# --- hawkBit's cases ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failed", "told", "halts"),
    [
        (2, 4, False),  # 50 %, and exactly the number
        (3, 150, False),  # more than the number, and exactly the percent
        (3, 151, False),
        (3, 149, True),
        (0, 0, False),
        (3, 3, True),
    ],
)
def test_exactly_at_the_threshold_does_not_fire(failed: int, told: int, halts: bool) -> None:
    assert exceeded(PLAN, failed, told) == halts


def test_three_of_a_hundred_halt_and_the_halt_is_on_the_broker() -> None:
    boxes = [*numbered(97, LIVE), *numbered(3, FAILED, 97)]
    halt = after(boxes, wanting(100))
    assert isinstance(halt, Publish)
    assert (halt.percent, halt.pause) == (100, True)
    assert halt.why == "halts: 3 of 100 failed, more than 2 and more than 2 %"
    halted = after(boxes, wanting(100, pause=True), fresh=True)
    assert isinstance(halted, End)
    assert (halted.ok, "halted at 100 %" in halted.why) == (False, True)


def test_zero_devices_are_the_end_and_no_success() -> None:
    for boxes in ([], [Box("a", "online")], [Box("a", "online", models=(Model("cells"),))]):
        end = step(fleet(boxes), TARGET, PLAN, LATER, fresh=True)
        assert isinstance(end, End)
        assert not end.ok
    nobody = after(numbered(3, LIVE), wanting(0))
    assert isinstance(nobody, End)
    assert not nobody.ok
    asleep = step(fleet([box("a", OLD, "offline")]), TARGET, PLAN, LATER, fresh=True)
    assert isinstance(asleep, End)
    assert not asleep.ok


def test_a_wave_whose_boxes_are_all_offline_is_waited_for() -> None:
    waits = after([box("a", LIVE, "offline")], wanting(100))
    assert isinstance(waits, Wait)
    assert waits.why == "all of its boxes are offline"


def test_a_device_that_joins_late_belongs_to_the_wave_that_its_name_puts_it_into() -> None:
    early = numbered(9, LIVE)
    assert isinstance(after(early, wanting(100)), End)
    assert isinstance(after([*early, *numbered(2, OLD, 9)], wanting(100)), Wait)
    late = next(one for one in numbered(100, OLD, 9) if not takes_part(Rollout(50, "s"), one.name))
    inside = [one for one in numbered(99, LIVE) if takes_part(Rollout(50, "s"), one.name)]
    assert isinstance(after([*inside, late], wanting(50)), Publish)


def test_a_device_that_is_in_two_groups_follows_the_newer_order() -> None:
    both = [box(f"box-{number}", LIVE, groups=("a", "b")) for number in range(3)]
    only_a = [box(f"a-{number}", LIVE, groups=("a",)) for number in range(7)]
    mine = wanting(100, to="group/a")
    other = Want("digits", "group/b", 200, ISSUED, 10**15, V1.release, 1)
    target = Target("digits", "group/a", V2.release)
    end = step(fleet([*both, *only_a], mine, other), target, PLAN, LATER)
    assert isinstance(end, End)
    assert str(end.wave) == "100 %: 7 of 7 done"


def test_a_box_that_an_operator_holds_is_not_asked() -> None:
    held = [box(f"held-{number}", Install("idle", active=V1, held=True)) for number in range(5)]
    end = after([*numbered(5, LIVE), *held], wanting(100))
    assert isinstance(end, End)
    assert (end.ok, str(end.wave)) == (True, "100 %: 5 of 5 done")


def test_a_box_on_which_a_person_has_installed_another_release_is_not_asked() -> None:
    hand = Install("idle", active=V1, about=V1, want=Wanted(V1.release, "1", seen=(0, 100)))
    end = after([*numbered(5, LIVE), *[box(f"hand-{number}", hand) for number in range(5)]], wanting(100))
    assert isinstance(end, End)
    assert (end.ok, str(end.wave)) == (True, "100 %: 5 of 5 done")


def test_boxes_that_fell_silent_in_trial_count_as_failed() -> None:
    silent = [box(f"silent-{number}", BUSY, "offline") for number in range(3)]
    halt = after([*numbered(50, LIVE), *silent], wanting(100))
    assert isinstance(halt, Publish)
    assert halt.pause


def test_too_few_done_and_none_under_way_ends_it() -> None:
    boxes = [*numbered(8, LIVE), *numbered(2, FAILED, 8)]
    assert isinstance(after(boxes, wanting(100), now_ms=ISSUED + 1000), Wait)
    end = after(boxes, wanting(100))
    assert isinstance(end, End)
    assert (end.ok, "none is on the way" in end.why) == (False, True)


# --- pauses, resuming, others ---------------------------------------------------------------------------


def test_a_pause_of_somebody_else_ends_it_and_the_command_goes_on_from_it() -> None:
    paused = wanting(10, pause=True)
    assert isinstance(end := after(numbered(100), paused), End)
    assert (end.ok, end.why) == (False, "paused at 10 %")
    assert after(numbered(100), paused, fresh=True) == Publish(10, "s", "goes on at 10 %")


def test_after_a_halt_it_goes_on_when_the_boxes_were_mended_or_are_to_try_again() -> None:
    boxes = [*numbered(97, LIVE), *numbered(3, FAILED, 97)]
    halted = wanting(100, pause=True)
    assert isinstance(after(boxes, halted, fresh=True), End)
    again = after(boxes, halted, fresh=True, retry=True)
    assert again == Publish(100, "s", "goes on at 100 %", retry=True)
    mended = [*numbered(98, LIVE), *numbered(2, FAILED, 98)]
    assert after(mended, halted, fresh=True) == Publish(100, "s", "goes on at 100 %")
    lenient = msgspec.structs.replace(PLAN, max_fail=5.0)
    assert isinstance(after(boxes, halted, fresh=True, plan=lenient), Publish)


def test_boxes_that_refuse_the_order_are_not_on_the_way_once_it_has_had_time_to_reach_them() -> None:
    refusing = msgspec.structs.replace(OLD, refused={"all": "signature"})
    boxes = [*numbered(8, LIVE), *numbered(2, refusing, 8)]
    at_once = msgspec.structs.replace(PLAN, soak_s=0.0)
    assert isinstance(after(boxes, wanting(100), now_ms=ISSUED + 59_000, plan=at_once), Wait)
    end = after(boxes, wanting(100), now_ms=ISSUED + 61_000, plan=at_once)
    assert isinstance(end, End)
    assert (end.ok, str(end.wave)) == (False, "100 %: 8 of 10 done, 2 behind (signature)")
    slow = [*boxes, box("slow")]
    assert isinstance(after(slow, wanting(100), plan=at_once), Wait)


def test_failures_of_before_do_not_halt_a_retry() -> None:
    """Until the boxes have taken the new want: what they say still is of the old one."""
    said = msgspec.structs.replace(FAILED, want=Wanted(V2.release, "2", 0, 100))
    boxes = [*numbered(97, LIVE), *numbered(3, said, 97)]
    retry = msgspec.structs.replace(wanting(100, seq=102), retry=True)
    end = after(boxes, retry)
    assert isinstance(end, End)
    assert end.ok  # 97 of 100; the last three are still to come
    assert str(end.wave) == "100 %: 97 of 100 done, 3 behind (golden)"


def test_an_undo_or_another_release_on_its_topic_ends_it_and_a_fresh_command_begins_anew() -> None:
    for order in (
        Undo("digits", "all", 300, ISSUED, 10**15, V2.release),
        Want("digits", "all", 300, ISSUED, 10**15, V1.release, 1),
    ):
        found = fleet(numbered(100, LIVE), order)
        end = step(found, TARGET, PLAN, LATER)
        assert isinstance(end, End)
        assert not end.ok
        begins = step(found, TARGET, PLAN, LATER, fresh=True)
        assert isinstance(begins, Publish)
        assert begins.percent == 1


def test_a_newer_order_for_all_takes_a_group_out_of_its_rollout() -> None:
    boxes = [box(f"box-{number}", LIVE, groups=("a",)) for number in range(10)]
    mine = wanting(10, to="group/a", seq=100)
    newer = Want("digits", "all", 200, ISSUED, 10**15, V1.release, 1)
    end = step(fleet(boxes, mine, newer), Target("digits", "group/a", V2.release), PLAN, LATER)
    assert isinstance(end, End)
    assert not end.ok


def test_a_want_that_nobody_who_counts_has_signed_is_none() -> None:
    forged = Fleet(tuple(numbered(10, LIVE)), (Published("digits", "all", wanting(100), b"", signed=False),))
    begins = step(forged, TARGET, PLAN, LATER, fresh=True)
    assert isinstance(begins, Publish)
    assert begins.percent == 1


@given(st.integers(1, 60), st.sampled_from([0.5, 1.0, 10.0, 50.0, 100.0]))
def test_the_first_wave_is_never_empty_and_not_larger_than_asked(count: int, percent: float) -> None:
    names = [f"box-{number}" for number in range(count)]
    salt = waves.choose_salt(V2.release, percent, names)
    assert salt is not None
    chosen = sum(takes_part(Rollout(percent, salt), name) for name in names)
    assert 1 <= chosen <= math.ceil(count * percent / 100)  # of three boxes half is never all
