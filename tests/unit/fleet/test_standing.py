"""What a box has made of the order that counts for it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edged.delivery.documents import Rollout, Undo, Want
from edged.fleet import standing
from edged.fleet.standing import Standing, State
from edged.fleet.view import Box, Fleet, Install, Model, Published, Version, Wanted

V1, V2 = Version("1", "1" * 64), Version("2", "2" * 64)
WANT = Want("digits", "all", 100, 1, 10**15, V2.release, 2)
NOBODY = Rollout(percent=0)


def published(order: Want | Undo) -> Published:
    return Published(order.model, order.to, order, b"")


def at(install: Install, order: Want | Undo | None = WANT, *, presence: Any = "online") -> Standing:
    model = Model("digits", "serving", "1", install)
    box = Box("press-07", presence, models=(model,))
    return standing.of(box, model, published(order) if order else None)


def accepted(seq: int = 100, **more: Any) -> Install:
    return Install(**{"phase": "idle", "active": V1, "want": Wanted(V2.release, "2", 0, seq), **more})


def test_a_box_that_says_no_to_the_order_is_behind_and_says_why() -> None:
    assert at(Install("idle", "active", active=V1, refused={"all": "signature"})).code == "signature"
    assert at(Install("idle", "active", active=V1, refused={"group/a": "signature"})).code == ""
    assert at(Install("idle", "rejected", "signature", active=V1)).code == "signature"  # an edged without `refused`


def test_why_a_release_before_failed_is_no_reason_to_be_behind() -> None:
    assert at(Install("idle", "failed", "golden", active=V1, about=V1)).code == ""
    retry = msgspec.structs.replace(WANT, retry=True)
    assert at(Install("idle", "failed", "golden", active=V1, about=V2), retry).code == "golden"


@pytest.mark.parametrize(
    ("install", "state"),
    [
        (Install(), "behind"),
        (Install("idle", active=V1), "behind"),
        (Install("idle", "active", active=V1, want=Wanted(V1.release, "1", 0, 50)), "behind"),
        (accepted(), "waiting"),
        (Install("idle", active=V1, want=Wanted(V1.release, "1", 0, 150)), "behind"),  # ours is a replay there
        (accepted(phase="waiting", code="no_space"), "waiting"),
        (accepted(phase="downloading", candidate=V2), "busy"),
        (accepted(phase="probation", active=V2, candidate=V2), "busy"),
        (accepted(active=V2, verdict="active"), "live"),
        (Install("idle", active=V2), "live"),  # from a stick, say: no want brought it
        (accepted(verdict="failed", code="golden", about=V2), "failed"),
        (accepted(verdict="rolled_back", code="probation_errors"), "failed"),
        (accepted(verdict="rejected", code="io_mismatch", about=V2), "failed"),
        (accepted(verdict="failed", code="golden", about=V1), "waiting"),  # of the release before
        (Install("idle", "failed", "golden", active=V1, about=V1), "behind"),
        (Install("idle", active=V1, held=True), "held"),
        (accepted(50, verdict="rolled_back", code="undone"), "behind"),
    ],
)
def test_a_box_online_stands_where_its_status_says(install: Install, state: State) -> None:
    found = at(install)
    assert found.state == state
    assert found.done == (state == "live")
    assert found.failed == (state == "failed")


@pytest.mark.parametrize("presence", ["offline", "unknown"])
def test_the_old_status_of_a_box_that_is_away_is_not_done(presence: str) -> None:
    found = at(accepted(active=V2, verdict="active"), presence=presence)
    assert (found.state, found.done, found.failed, found.settled, found.bad) == ("live", False, False, False, True)


@pytest.mark.parametrize(("phase", "lost"), [("downloading", False), ("trial", True), ("probation", True)])
def test_a_box_that_fell_silent_while_it_ran_the_release_counts_as_failed(phase: str, lost: bool) -> None:
    assert at(accepted(phase=phase, candidate=V2), presence="offline").failed == lost
    assert not at(accepted(phase=phase, candidate=V2)).failed


def test_a_want_with_retry_makes_an_old_failure_one_to_come() -> None:
    failed = accepted(90, verdict="failed", code="golden", about=V2)
    again = Want("digits", "all", 100, 1, 10**15, V2.release, 2, retry=True)
    assert at(failed).state == "failed"
    assert at(failed, again).state == "behind"
    assert at(accepted(100, verdict="failed", code="golden", about=V2), again).state == "failed"


def test_a_box_on_which_a_person_has_installed_another_release_is_not_behind() -> None:
    """It has seen the want, and will not come back to it by itself."""
    install = Install("idle", "active", active=V1, about=V1, want=Wanted(V1.release, "1", seen=(0, 100)))
    assert (at(install).state, at(install).bad, at(install).settled) == ("local", False, False)
    again = Want("digits", "all", 200, 100, 10**15, V2.release, 2, retry=True)
    assert at(install, again).state == "behind"  # not seen yet
    assert (
        at(msgspec.structs.replace(install, active=V2, about=V2, want=Wanted(V2.release, "2", seen=(0, 100)))).state
        == "live"
    )
    assert at(msgspec.structs.replace(install, held=True)).state == "held"


def test_a_box_outside_of_the_percent_is_asked_for_nothing() -> None:
    outside = Want("digits", "all", 100, 1, 10**15, V2.release, 2, rollout=NOBODY)
    assert at(Install("idle", active=V1), outside).state == "outside"
    assert at(Install("idle", active=V2), outside).state == "live"
    assert at(accepted(verdict="failed", about=V2), outside).state == "failed"


def test_a_pause_is_what_a_box_waits_for_that_has_not_switched() -> None:
    paused = Want("digits", "all", 100, 1, 10**15, V2.release, 2, rollout=Rollout(pause=True))
    waits = at(Install("idle", active=V1), paused)
    assert (waits.state, waits.code, waits.bad) == ("waiting", "paused", False)
    assert at(accepted(phase="probation", candidate=V2), paused).state == "busy"
    assert at(accepted(active=V2), paused).state == "live"


def test_a_download_is_done_when_it_is_stored() -> None:
    stored = Want("digits", "all", 100, 1, 10**15, V2.release, 2, action="download_only")
    assert at(accepted(flags=("downloaded",), about=V2), stored).done
    assert at(accepted(phase="verified", candidate=V2, flags=("downloaded",)), stored).done  # as a box says it
    assert at(accepted(phase="trial", candidate=V2, flags=("downloaded",)), stored).state == "busy"  # by its own word
    assert not at(accepted(), stored).done


def test_an_undo_is_done_where_its_release_is_not_any_more() -> None:
    undo = Undo("digits", "all", 101, 1, 10**15, V2.release)
    assert at(Install("idle", active=V1, verdict="rolled_back", code="undone"), undo).state == "undone"
    assert at(Install("idle", active=V2), undo).state == "behind"
    assert at(Install("trial", active=V1, candidate=V2), undo).state == "behind"
    assert not at(Install("idle", active=V1), undo, presence="offline").done


@pytest.mark.parametrize(
    ("install", "bad"),
    [
        (accepted(active=V2), False),
        (accepted(phase="trial", candidate=V2), False),
        (accepted(phase="waiting", code="not_now"), False),
        (accepted(phase="waiting", code="no_space"), True),
        (Install("idle", active=V1), True),  # behind
        (accepted(verdict="failed", about=V2), True),
        (accepted(active=V2, flags=("untrusted_active",)), True),
        (accepted(active=V2, flags=("untested_live",)), False),
    ],
)
def test_bad_is_what_somebody_should_look_at(install: Install, bad: bool) -> None:
    assert at(install).bad == bad


def test_without_an_order_a_box_is_bad_when_it_is_away_or_its_model_is() -> None:
    assert (at(Install(), None).state, at(Install(), None).bad) == ("none", False)
    assert at(Install(), None, presence="offline").bad
    model = Model("digits", "failed")
    assert standing.of(Box("a", "online", models=(model,)), model, None).bad


def test_only_boxes_that_have_the_model_stand_to_its_order() -> None:
    boxes = (Box("a", "online", models=(Model("digits"),)), Box("b", "online", models=(Model("cells"),)))
    found = standing.standings(Fleet(boxes, (published(WANT),)), "digits")
    assert [(one.box.name, one.state) for one in found] == [("a", "behind")]
