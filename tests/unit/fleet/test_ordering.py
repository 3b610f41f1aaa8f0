"""A want and its undo: their places in the sequence, their signatures, and which of them is laid down first."""

from __future__ import annotations

import msgspec
import pytest

from edged.delivery import trust
from edged.delivery.documents import Rollout, Undo, Want, Watching
from edged.errors import EdgedError
from edged.fleet import ordering
from edged.fleet.view import Box, Fleet, Install, Model, Published, Wanted
from edged.topics import Ota
from tests.operators import signing
from tests.signing import Operator

NOW = 1_700_000_000_000
RELEASE = "2" * 64
WANT = Want("digits", "group/line-2", 0, 0, 0, RELEASE, 2, rollout=Rollout(10, "s"))


def lying(*orders: Want | Undo, signed: bool | None = True) -> tuple[Published, ...]:
    return tuple(Published(one.model, one.to, one, b"", signed) for one in orders)


def order(seq: int, *, epoch: int = 0, model: str = "digits", to: str = "all") -> Want:
    return Want(model, to, seq, 1, 2, RELEASE, 2, epoch=epoch)


def test_a_place_is_the_wall_clock_and_the_undo_has_the_next_one() -> None:
    want, undo = ordering.draw(Fleet(), WANT, NOW)
    assert (want.seq, want.issued, undo.seq, undo.issued) == (NOW, NOW, NOW + 1, NOW)
    assert (undo.model, undo.to, undo.release) == (want.model, want.to, want.release)
    assert want.rollout == WANT.rollout
    assert (want.expires, undo.expires) == (NOW + 30 * 86_400_000, NOW + 365 * 86_400_000)


def saying(seq: int, *, epoch: int = 0) -> Box:
    followed = Install(want=Wanted(RELEASE, "2", epoch, seq))
    return Box("a", "online", models=(Model("digits", install=followed),))


@pytest.mark.parametrize(
    ("fleet", "seq"),
    [
        (Fleet(wants=lying(order(NOW + 7))), NOW + 8),  # another operator's clock is ahead
        (Fleet(wants=lying(order(NOW + 7, to="device/a"))), NOW + 8),  # newest wins over scope
        (Fleet(wants=lying(order(NOW)), undos=lying(Undo("digits", "all", NOW + 1, 1, 2, RELEASE))), NOW + 2),
        (Fleet(wants=lying(order(NOW + 7, model="cells"))), NOW),
        (Fleet(wants=lying(order(NOW + 7, epoch=1))), NOW),
        (Fleet(wants=lying(order(2**53 - 1), signed=False)), NOW),  # a stranger cannot use up the sequence
        (Fleet(wants=lying(order(NOW - 5))), NOW),
        (Fleet((saying(NOW + 9),)), NOW + 10),  # the broker has lost it, a box has seen it
        (Fleet((saying(NOW + 2 * 86_400_000),)), NOW),  # which no box would have taken
        (Fleet((saying(NOW + 9, epoch=1),)), NOW),
        (Fleet(wants=lying(order(NOW + 2 * 86_400_000))), NOW),  # a clock was days ahead: no box that knows takes it
        (Fleet((saying(NOW + 2 * 86_400_000),), lying(order(NOW + 2 * 86_400_000))), NOW + 2 * 86_400_000 + 1),
        (
            Fleet(
                (saying(NOW + 2 * 86_400_000),), undos=lying(Undo("digits", "all", NOW + 172_800_001, 1, 2, RELEASE))
            ),
            NOW + 172_800_002,
        ),
    ],
)
def test_a_place_is_above_what_lies_there_already(fleet: Fleet, seq: int) -> None:
    assert ordering.next_seq(fleet, "digits", 0, NOW) == seq


@pytest.mark.parametrize("probation", [Watching(time_s=1e10), Watching(runs=10**10), Watching(max_errors=-1.0)])
def test_an_order_that_no_box_would_take_is_not_signed(probation: Watching) -> None:
    want, _ = ordering.draw(Fleet(), msgspec.structs.replace(WANT, probation=probation), NOW)
    with pytest.raises(EdgedError, match="no box would take that order: probation") as caught:
        ordering.seal(want, lambda _: pytest.fail("signed"))
    assert caught.value.fault.code == "bad_config"


def test_both_are_signed_and_the_undo_lies_there_before_its_want() -> None:
    operator = Operator()
    there: list[tuple[str, bytes]] = []
    want, undo = ordering.draw(Fleet(), WANT, NOW)
    ordering.publish(Ota("edged"), want, undo, signing(operator), lambda topic, payload: there.append((topic, payload)))
    assert [topic for topic, _ in there] == [
        "edged/ota/undo/digits/group/line-2",
        "edged/ota/want/digits/group/line-2",
    ]
    assert [trust.order(operator.trust, payload).document for _, payload in there] == [undo, want]
