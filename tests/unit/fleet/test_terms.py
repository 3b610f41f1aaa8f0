"""Whether the order on the broker makes another one needless."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edged.delivery.documents import Order, Rollout, Want, Watching
from edged.fleet.parcel import Parcel
from edged.fleet.terms import Terms, in_force
from edged.fleet.view import Box, Fleet, Install, Model, Published, Wanted
from tests.releases import content, folder_of
from tests.signing import ISSUED_MS, Operator, release_of, undo_of, want_of


@pytest.fixture
def parcel(tmp_path: Path) -> Parcel:
    folder_of(tmp_path, {"model.onnx": content(100)}, Operator())
    return Parcel.open(tmp_path)


def fleet(*orders: Order, to: str = "", signed: bool | None = True) -> Fleet:
    return Fleet(wants=tuple(Published(one.model, to or one.to, one, b"", signed) for one in orders))


def placed(want: Want, seq: int = ISSUED_MS, **changes: object) -> Want:
    kept = {"seq": seq, "issued": ISSUED_MS, "expires": ISSUED_MS + 1000} | changes
    return msgspec.structs.replace(want, **kept)


def test_the_same_order_is_needless_while_it_lasts(parcel: Parcel) -> None:
    want = Terms("all").want(parcel, 0, Fleet())
    there = placed(want)
    assert in_force(fleet(there), want, ISSUED_MS + 999) == there
    assert in_force(fleet(there), want, ISSUED_MS + 1000) is None
    assert in_force(fleet(), want, ISSUED_MS) is None
    assert in_force(fleet(there, signed=False), want, ISSUED_MS) is None
    assert in_force(fleet(undo_of(there), to="all"), want, ISSUED_MS) is None


@pytest.mark.parametrize(
    ("followed", "needless"),
    [
        (Wanted("f" * 64, "9", 0, ISSUED_MS + 1), False),  # of two operators the older's order came last
        (Wanted("f" * 64, "9", 0, ISSUED_MS - 1), True),  # the box has not taken the order yet
        (None, True),
    ],
)
def test_an_order_that_boxes_take_for_a_replay_is_given_anew(
    parcel: Parcel, followed: Wanted | None, needless: bool
) -> None:
    want = Terms("all").want(parcel, 0, Fleet())
    box = Box("a", "online", models=(Model(want.model, install=Install(want=followed)),))
    seen = msgspec.structs.replace(fleet(placed(want)), boxes=(box,))
    assert (in_force(seen, want, ISSUED_MS) is not None) == needless


def test_an_order_that_was_a_retry_is_the_same_order(parcel: Parcel) -> None:
    want = Terms("all").want(parcel, 0, Fleet())
    assert in_force(fleet(placed(want, retry=True)), want, ISSUED_MS) is not None
    again = Terms("all", retry=True).want(parcel, 0, Fleet())
    assert in_force(fleet(placed(again)), again, ISSUED_MS) is None


@pytest.mark.parametrize(
    "terms",
    [
        Terms("all", percent=50),
        Terms("all", allow_downgrade=True),
        Terms("all", urgent=True),
        Terms("all", download_only=True),
        Terms("all", probation=Watching(time_s=5)),
        Terms("group/g"),
    ],
)
def test_other_terms_are_another_order(parcel: Parcel, terms: Terms) -> None:
    there = fleet(placed(Terms("all").want(parcel, 0, Fleet())))
    assert in_force(there, terms.want(parcel, 0, there), ISSUED_MS) is None


def test_a_new_epoch_takes_a_new_order(parcel: Parcel) -> None:
    there = fleet(placed(Terms("all").want(parcel, 0, Fleet())))
    assert in_force(there, Terms("all").want(parcel, 1, there), ISSUED_MS) is None


def test_what_is_newer_and_for_another_release_is_in_the_way(parcel: Parcel) -> None:
    want = Terms("all").want(parcel, 0, Fleet())
    other = want_of(release_of({"model.onnx": b"x"}, version=3), to="device/a", seq=ISSUED_MS + 2)
    assert in_force(fleet(placed(want), other), want, ISSUED_MS) is None
    assert in_force(fleet(placed(want, seq=ISSUED_MS + 4), other), want, ISSUED_MS) is not None
    same = msgspec.structs.replace(other, release=want.release)
    assert in_force(fleet(placed(want), same), want, ISSUED_MS) is not None
    to_b = Terms("device/b").want(parcel, 0, Fleet())
    assert in_force(fleet(placed(to_b), other), to_b, ISSUED_MS) is not None


def test_boxes_that_are_in_the_percent_stay_in(parcel: Parcel) -> None:
    ten = Terms("all", percent=10).want(parcel, 0, Fleet())
    assert ten.rollout.salt
    lying = placed(msgspec.structs.replace(ten, rollout=Rollout(10, "chosen")))
    assert Terms("all", percent=50).want(parcel, 0, fleet(lying)).rollout == Rollout(50, "chosen")
