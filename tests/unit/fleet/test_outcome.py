"""What is said of each box while an order is waited for, and when there is nothing left to wait for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edged.delivery.documents import Rollout, Want
from edged.errors import CODES
from edged.fleet.outcome import Absences, Line, Patience, outcome
from edged.fleet.view import Fleet, build
from edged.topics import Ota
from tests.signing import Operator, release_of, sha256_of, want_of

RELEASE = release_of({"model.onnx": b"x"}, model="m")
WANT = want_of(RELEASE)
OPERATOR = Operator()
ABOUT = {"push": {"version": "2", "release": sha256_of(RELEASE)}}
FOLLOWED = {"want": {"release": WANT.release, "version": "2", "epoch": 0, "seq": WANT.seq}}
LIVE = {"verdict": "active", "active": {"version": "2", "release": WANT.release}}


def fleet(boxes: dict[str, dict[str, Any]], *wants: Want, away: tuple[str, ...] = (), kept: bool = True) -> Fleet:
    """Boxes by name, with what each says of the model m; they are online unless they are `away`.

    `kept` False: the broker has lost the orders.
    """
    lying = (wants or (WANT,)) if kept else ()
    retained = {Ota("e").want(want.model, want.to): OPERATOR.sign_order(want) for want in lying}
    for name, install in boxes.items():
        retained[f"e/{name}/status"] = b"offline" if name in away else b"online"
        retained[f"e/{name}/info"] = msgspec.json.encode({"models": [{"name": "m", "state": "serving"}]})
        retained[f"e/{name}/install/m"] = msgspec.json.encode({"phase": "idle", **install})
    return build(retained, "e")


def line(install: dict[str, Any], *wants: Want, away: bool = False) -> Line:
    return outcome(fleet({"a": install}, *wants, away=("a",) if away else ()), WANT).lines[0]


def hand(seen: int) -> dict[str, Any]:
    """What `edged install FOLDER` leaves on a box that has seen this place."""
    return {"want": {"release": "f" * 64, "version": "9", "seen": {"epoch": 0, "seq": seen}}}


@pytest.mark.parametrize(
    ("install", "fate", "word"),
    [
        ({}, "open", "has not taken the order yet"),
        (LIVE | FOLLOWED, "active", "runs version 2"),
        (LIVE | FOLLOWED | {"flags": ["untested"]}, "active", "runs version 2 (untested)"),
        ({"phase": "downloading"} | ABOUT | FOLLOWED, "open", "downloading"),
        ({"phase": "probation"} | ABOUT | FOLLOWED, "open", "probation"),
        ({"verdict": "rejected", "code": "io_mismatch"} | ABOUT | FOLLOWED, "failed", "rejected"),
        ({"verdict": "rolled_back", "code": "probation_errors"} | ABOUT | FOLLOWED, "failed", "rolled_back"),
        ({"phase": "waiting", "code": "not_now"} | ABOUT | FOLLOWED, "apart", "waits: not_now"),
        ({"phase": "waiting", "code": "manual"} | ABOUT | FOLLOWED, "apart", "waits: manual"),
        ({"phase": "waiting", "code": "no_space"} | ABOUT | FOLLOWED, "open", "waiting"),
        (
            {"phase": "probation", "push": {"release": "f" * 64}} | FOLLOWED,
            "open",
            "waits for another release's probation",
        ),
        ({"phase": "waiting", "code": "expired"} | ABOUT | FOLLOWED, "failed", "does not begin"),
        ({"held": True} | FOLLOWED, "failed", "held by somebody on the box"),
        (hand(WANT.seq), "failed", "a person on the box has installed version 9"),
        (hand(WANT.seq - 1), "open", "has not taken the order yet"),
        ({"want": {"release": "f" * 64, "seq": WANT.seq + 1}}, "apart", "follows a newer order"),
    ],
)
def test_each_box_has_a_fate(install: dict[str, Any], fate: str, word: str) -> None:
    found = line(install)
    assert (found.fate, found.word) == (fate, word)


def test_ota_F50_a_box_that_is_away_is_never_done() -> None:
    assert line(LIVE | FOLLOWED, away=True).fate == "apart"
    assert line({"phase": "probation"} | ABOUT | FOLLOWED, away=True).fate == "failed"


def test_a_box_that_has_just_gone_is_waited_for_a_while() -> None:
    """Whatever it was at; one that was away from the start is not, and one that comes back has its own word again."""
    absences = Absences({"a"}, 30)
    trial = {"phase": "trial"} | ABOUT | FOLLOWED
    boxes: dict[str, dict[str, Any]] = {"a": trial, "b": LIVE | FOLLOWED, "c": {}}

    def at(now_s: float, *away: str) -> list[tuple[str, str]]:
        now = fleet(boxes, away=away)
        return [(one.fate, one.word) for one in outcome(now, WANT, absences.brief(now, now_s)).lines]

    assert at(0, "a", "c")[0] == ("open", "offline for a moment, fell silent in trial")
    assert at(1, "a", "b", "c")[1:] == [("open", "offline for a moment"), ("apart", "offline")]
    assert at(29, "a", "c")[:2] == [
        ("open", "offline for a moment, fell silent in trial"),
        ("active", "runs version 2"),
    ]
    assert at(30, "a", "b", "c")[:2] == [("failed", "fell silent in trial"), ("open", "offline for a moment")]
    assert at(31, "c")[0] == ("open", "trial")
    assert at(60, "a", "c")[0] == ("open", "offline for a moment, fell silent in trial")


def test_a_box_that_refuses_the_order_has_failed_when_it_does_so_for_a_while() -> None:
    """At first it may be the refusal of what lay there before; another reason, or none, begins the time anew."""
    patience = Patience(10)

    def at(now_s: float, code: str, hint: str = "") -> Line:
        said = {"verdict": "rejected", "code": code, "message": "no", "hint": hint, "refused": {"all": code}}
        return patience.settle(outcome(fleet({"a": said if code else {}}), WANT), now_s).lines[0]

    first = at(0, "bad_document")
    assert (first.fate, first.word, first.code) == ("open", "has not taken the order yet", "bad_document")
    assert at(9, "no_trust").fate == "open"
    assert at(18, "no_trust", "Name one.").fate == "open"
    refused = at(19, "no_trust", "Name one.")
    assert (refused.fate, refused.word, refused.code) == ("failed", "refuses the order", "no_trust")
    assert (refused.message, refused.hint) == ("no", "Name one.")
    assert at(20, "").fate == "open"
    assert at(21, "no_trust").fate == "open"


def test_a_box_that_refuses_what_lies_on_another_topic_refuses_no_order() -> None:
    assert not line({"refused": {"device/a": "signature"}}).stalled


@pytest.mark.parametrize(
    ("code", "said", "hint"),
    [
        ("signature", {}, "It believes another trust document than yours: see push.trust on the box."),
        ("no_trust", {}, CODES["no_trust"].hint),  # something else was told since
        ("no_trust", {"code": "io_mismatch", "message": "before", "hint": "Rename it."}, CODES["no_trust"].hint),
        ("of_tomorrow", {}, ""),
    ],
)
def test_what_to_do_about_a_refusal_is_said(code: str, said: dict[str, Any], hint: str) -> None:
    found = line({"refused": {"all": code}} | said)
    assert (found.code, found.message, found.hint) == (code, "", hint)


@pytest.mark.parametrize(
    "before",
    [
        {"verdict": "rejected", "code": "downgrade", "hint": "Push it with --allow-downgrade."} | ABOUT,
        {"phase": "waiting", "code": "expired", "hint": "Push again."} | ABOUT,
        {"held": {"by": "anna", "pinned": True}},
    ],
)
def test_what_a_box_said_of_an_order_before_is_no_answer_to_this_one(before: dict[str, Any]) -> None:
    """On a slow line the command looks before the order has come there: it may be just what the box's hint asks for."""
    older = {"want": FOLLOWED["want"] | {"seq": WANT.seq - 2}}
    found = line(before | older)
    assert (found.fate, found.word, found.code) == ("open", "has not taken the order yet", "")
    assert line(before | FOLLOWED).fate == "failed"
    by_hand = {"want": {"release": WANT.release, "version": "2", "seen": {"epoch": 0, "seq": WANT.seq}}}
    assert line(before | by_hand).fate == "failed"


def test_a_box_without_the_model_is_waited_for_a_while_as_it_may_make_it_of_the_order() -> None:
    want = msgspec.structs.replace(WANT, model="new")
    found = outcome(fleet({"a": {}}, want), want)
    assert found.open
    patience = Patience(10)
    assert patience.settle(found, 0).open
    last = patience.settle(found, 10)
    assert not last.open
    assert [(one.fate, one.word) for one in last.lines] == [("apart", "has no model new")]


def test_where_a_box_is_not_to_be_heard_the_right_that_may_be_missing_is_named() -> None:
    assert not line({}).hint
    assert "/+/install/+" in line({"phase": ""}).hint


def test_of_a_box_that_has_not_taken_the_order_nothing_is_said_of_a_release_before() -> None:
    before = {
        "verdict": "failed",
        "code": "golden",
        "message": "2 differ",
        "push": {"version": "1", "release": "f" * 64},
    }
    found = line(before)
    assert (found.word, found.code, found.message) == ("has not taken the order yet", "", "")


def test_an_order_that_the_broker_has_lost_counts_for_the_boxes_that_follow_it_and_reaches_no_other() -> None:
    boxes: dict[str, dict[str, Any]] = {
        "a": LIVE | FOLLOWED,
        "b": {"phase": "trial"} | ABOUT | FOLLOWED,
        "c": {},
    }
    found = outcome(fleet(boxes, kept=False), WANT)
    assert [(one.fate, one.word) for one in found.lines] == [
        ("active", "runs version 2"),
        ("open", "trial"),
        ("open", "has not been reached by the order yet"),
    ]
    patience = Patience(10)
    assert patience.settle(found, 0) == found
    *_, last = patience.settle(found, 10).lines
    assert (last.fate, last.word) == ("failed", "the broker has lost the order")
    assert last.hint
    older = msgspec.structs.replace(WANT, seq=WANT.seq - 5, release="f" * 64)
    assert outcome(fleet(boxes, older), WANT).lines[0].word == "runs version 2"


def test_what_is_said_in_brackets_is_a_code_that_can_be_looked_up() -> None:
    assert line({"phase": "probation"} | ABOUT | FOLLOWED, away=True).code == ""


def test_a_newer_order_takes_a_box_away() -> None:
    other = want_of(release_of({"model.onnx": b"y"}, model="m", version=3), to="device/a", seq=WANT.seq + 2)
    assert line({}, WANT, other).word == "follows a newer order"


def test_a_box_outside_of_the_percent_is_apart_unless_it_runs_the_release() -> None:
    none = msgspec.structs.replace(WANT, rollout=Rollout(0.0, "s"))
    assert outcome(fleet({"a": {}}, none), none).lines[0].word == "not among the percent"
    assert outcome(fleet({"a": LIVE | FOLLOWED}, none), none).lines[0].fate == "active"


def test_a_box_that_was_never_heard_of_is_named() -> None:
    want = want_of(RELEASE, to="device/ghost")
    found = outcome(fleet({}, want), want)
    assert [(one.box, one.word) for one in found.lines] == [("ghost", "never seen online")]


def test_it_is_good_when_all_that_are_online_have_it_and_there_is_one() -> None:
    assert outcome(fleet({"a": LIVE, "b": LIVE}, away=("b",)), WANT).good
    assert not outcome(fleet({"a": LIVE}, away=("a",)), WANT).good
    assert not outcome(fleet({"a": LIVE, "b": {}}), WANT).good
    assert not outcome(fleet({}), WANT).good
