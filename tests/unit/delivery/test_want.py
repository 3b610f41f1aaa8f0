"""What an order means for this box, rule by rule."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.delivery import want
from edged.delivery.documents import Order, Rollout, Trust, Want
from edged.delivery.trust import Signed
from edged.delivery.want import Accepted, Box, Decided, Known, Late, Noted, Refused, Replay, Seen
from tests.signing import ISSUED_MS, WEEK_MS, Operator, release_of, sha256_of, undo_of, want_of

TRUST = Operator().trust
RELEASE = release_of({"model.onnx": b"model"})
WANT = want_of(RELEASE)
BOX = Box("press-07", ("line-2", "pi4"))
NOW_MS = ISSUED_MS + 60_000


def decided(
    order: Order,
    *,
    on: str = "",
    model: str = "digits",
    box: Box = BOX,
    seen: Seen = Seen(),  # noqa: B008 - a frozen value
    trust: Trust = TRUST,
    now_ms: int = NOW_MS,
    synced: bool = True,
) -> Decided:
    signed = Signed(order, sha256_of(order), ("0" * 16,))
    return want.decide(signed, model, on or order.to, box, seen, trust, now_ms, synced=synced)


def seen_of(order: Order) -> Seen:
    return Seen(order.epoch, order.seq, sha256_of(order), order.issued)


def code_of(found: Decided) -> str:
    assert isinstance(found, Refused | Late)
    return found.fault.code


def test_a_new_order_is_accepted_and_takes_its_place() -> None:
    assert decided(WANT) == Accepted(Seen(0, WANT.seq, sha256_of(WANT), WANT.issued))


@pytest.mark.parametrize("to", ["all", "group/line-2", "group/pi4", "device/press-07"])
def test_the_box_the_groups_and_all_are_meant(to: str) -> None:
    assert isinstance(decided(want_of(RELEASE, to=to)), Accepted)


@pytest.mark.parametrize("to", ["group/line-3", "device/press-08", "device/line-2", "group/press-07"])
def test_an_order_for_others_is_refused(to: str) -> None:
    assert code_of(decided(want_of(RELEASE, to=to))) == "bad_document"


def test_a_want_means_the_boxes_that_it_covers_and_that_are_among_the_percent() -> None:
    assert want.means(want_of(RELEASE, to="group/pi4"), BOX)
    assert not want.means(want_of(RELEASE, to="group/line-3"), BOX)
    assert not want.means(want_of(RELEASE, rollout=Rollout(percent=0.0)), BOX)


def test_topic_and_document_agree() -> None:
    assert code_of(decided(WANT, model="other")) == "bad_document"
    assert code_of(decided(WANT, on="device/press-07")) == "bad_document"
    assert code_of(decided(want_of(RELEASE, to="device/press-07"), on="all")) == "bad_document"


@pytest.mark.parametrize(
    ("to", "on", "good"),
    [
        ("all", "all", True),
        ("all", "group/line-2", True),
        ("all", "device/press-07", True),
        ("group/line-2", "device/press-07", True),
        ("group/line-2", "group/pi4", False),
        ("group/line-2", "all", False),
        ("group/line-3", "device/press-07", False),
        ("device/press-07", "device/press-07", True),
        ("device/press-07", "group/line-2", False),
        ("all", "device/press-08", False),
    ],
)
def test_an_undo_may_come_on_a_narrower_topic(to: str, on: str, *, good: bool) -> None:
    found = decided(undo_of(want_of(RELEASE, to=to)), on=on)
    assert isinstance(found, Accepted if good else Refused)


def test_the_same_order_again_is_known() -> None:
    assert decided(WANT, seen=seen_of(WANT)) == Known()


def test_ota_F18_an_older_order_is_a_replay() -> None:
    newer = want_of(RELEASE, seq=WANT.seq + 1, to="device/press-07")
    assert decided(WANT, seen=seen_of(newer)) == Replay()
    assert isinstance(decided(newer, seen=seen_of(WANT)), Accepted)


def test_ota_F19_another_order_at_the_same_place_is_a_conflict() -> None:
    other = want_of(RELEASE, urgent=True)
    assert code_of(decided(other, seen=seen_of(WANT))) == "seq_conflict"


def test_ota_F23_an_order_past_its_time_begins_nothing_and_is_the_newest_all_the_same() -> None:
    found = decided(WANT, now_ms=WANT.expires)
    assert code_of(found) == "expired"
    assert isinstance(found, Late)
    assert found.seen == seen_of(WANT)
    assert isinstance(decided(WANT, now_ms=WANT.expires - 1), Accepted)


def test_ota_F23_nothing_begins_under_a_trust_document_past_its_time() -> None:
    ended = msgspec.structs.replace(TRUST, expires=NOW_MS)
    assert code_of(decided(WANT, trust=ended)) == "expired"


def test_ota_F23_an_undo_past_its_time_does_nothing() -> None:
    """Whoever may publish could go back for ever, else."""
    undo = undo_of(WANT)
    assert isinstance(decided(undo, now_ms=undo.expires - 1), Accepted)
    assert decided(undo, now_ms=undo.expires) == Noted(seen_of(undo))
    assert isinstance(decided(undo, now_ms=undo.expires, synced=False), Accepted)
    ended = msgspec.structs.replace(TRUST, expires=NOW_MS)
    assert isinstance(decided(undo, trust=ended), Accepted)  # nothing new begins, back one may go


def test_ota_F24_a_box_without_a_clock_takes_the_latest_time_that_it_knows_of() -> None:
    seen = Seen(0, 5, "0" * 64, ISSUED_MS)
    assert want.current_ms(0, [], 0) > 1_760_000_000_000
    assert want.current_ms(0, [seen, Seen()], 0) == ISSUED_MS
    assert want.current_ms(ISSUED_MS + 5, [seen], 0) == ISSUED_MS + 5
    # A document from after the box's time is taken by its place: the clock says nothing.
    later = want_of(RELEASE, seq=ISSUED_MS * 2, issued=ISSUED_MS * 2, expires=ISSUED_MS * 2 + WEEK_MS)
    assert isinstance(decided(later, now_ms=ISSUED_MS, synced=False), Accepted)


def test_ota_F25_a_clock_that_nobody_set_and_that_is_far_ahead_is_suspect() -> None:
    found = decided(WANT, now_ms=WANT.expires + 10 * 365 * 24 * 3600 * 1000, synced=False)
    assert code_of(found) == "clock_suspect"
    assert want.overdue(WANT, TRUST, NOW_MS) is None  # the clock was set


def test_ota_F28_a_place_far_ahead_is_refused_where_the_clock_is_right() -> None:
    for changes in ({"seq": 2**52}, {"issued": 2**52, "expires": 2**52}):
        assert code_of(decided(msgspec.structs.replace(WANT, **changes))) == "bad_document"
    assert isinstance(decided(want_of(RELEASE, seq=NOW_MS + want.AHEAD_MS)), Accepted)


def test_ota_F28_a_higher_epoch_lets_the_sequence_begin_anew() -> None:
    """A thief used the sequence up on a box whose clock could not tell."""
    stolen = want_of(RELEASE, seq=2**53 - 1, issued=2**53 - 1, expires=2**53 - 1)
    seen = seen_of(stolen)
    assert decided(WANT, seen=seen) == Replay()
    after = msgspec.structs.replace(TRUST, epoch=1)
    again = want_of(RELEASE, epoch=1)
    assert code_of(decided(again, seen=seen)) == "bad_document"  # its trust document is not here yet
    assert decided(again, seen=seen, trust=after) == Accepted(seen_of(again))
    assert decided(stolen, seen=seen_of(again), trust=after) == Replay()
    assert decided(stolen, trust=after) == Replay()
    assert want.current_ms(NOW_MS, [seen], 1) == NOW_MS  # nor is its time believed


def test_ota_F27_an_order_that_waits_is_worth_no_more_than_who_signed_it() -> None:
    """Accepted yesterday, in force until its hour comes, and today its key was stolen."""
    operator = Operator()
    signers = (operator.deploy.keyid,)
    assert want.overdue(WANT, operator.trust, NOW_MS, signers=signers) is None
    gone = want.overdue(WANT, TRUST, NOW_MS, signers=signers)
    assert gone is not None
    assert gone.code == "signature"


def test_ota_F28_an_order_that_waits_ends_with_its_epoch() -> None:
    gone = want.overdue(WANT, msgspec.structs.replace(TRUST, epoch=1), NOW_MS)
    assert gone is not None
    assert gone.code == "replayed"


def test_what_an_order_of_this_epoch_said_of_the_time_is_kept() -> None:
    found = decided(WANT, seen=Seen(0, 1, "0" * 64, WANT.issued + 7))
    assert isinstance(found, Accepted)
    assert found.seen.issued == WANT.issued + 7


def test_a_box_outside_of_the_percent_notes_the_place() -> None:
    none = want_of(RELEASE, rollout=Rollout(percent=0))
    assert decided(none) == Noted(seen_of(none))
    assert decided(none, now_ms=none.expires) == Noted(seen_of(none))
    assert isinstance(decided(undo_of(none)), Accepted)  # an undo has no percent


@given(st.text(max_size=20), st.lists(st.floats(0, 100), min_size=2, max_size=5))
def test_a_higher_percent_leaves_no_box_out(salt: str, percents: list[float]) -> None:
    boxes = [f"box-{number}" for number in range(50)]
    parts = [{box for box in boxes if want.takes_part(Rollout(one, salt), box)} for one in sorted(percents)]
    for fewer, more in pairwise(parts):
        assert fewer <= more


def test_a_percent_is_that_many_boxes_and_a_salt_picks_others() -> None:
    boxes = [f"box-{number}" for number in range(4000)]
    parts = {salt: {box for box in boxes if want.takes_part(Rollout(10, salt), box)} for salt in ("a", "b")}
    for found in parts.values():
        assert 320 < len(found) < 480
    assert parts["a"] != parts["b"]
    assert all(want.takes_part(Rollout(100), box) for box in boxes)
    assert not any(want.takes_part(Rollout(0), box) for box in boxes)


def test_a_bucket_is_what_the_protocol_says() -> None:
    """`printf 'salt/press-07' | sha256sum`: its first 16 digits modulo 10000 are the box's bucket."""
    bucket = 4461
    assert want.takes_part(Rollout((bucket + 1) / 100, "salt"), "press-07")
    assert not want.takes_part(Rollout(bucket / 100, "salt"), "press-07")


def test_boxes_begin_apart() -> None:
    rollout = Rollout(spread_s=600)
    delays = [want.delay_s(rollout, f"box-{number}") for number in range(600)]
    assert delays == [want.delay_s(rollout, f"box-{number}") for number in range(600)]
    assert all(0 <= one < 600 for one in delays)
    assert max(Counter(one // 60 for one in delays).values()) < 120
    assert want.delay_s(Rollout(), "press-07") == 0


@given(
    order=st.sampled_from([WANT, undo_of(WANT), want_of(RELEASE, epoch=1), want_of(RELEASE, seq=5)]),
    seen=st.builds(
        Seen, st.integers(0, 2), st.sampled_from([0, 5, WANT.seq, 2**52]), st.sampled_from(["", sha256_of(WANT)])
    ),
    epoch=st.integers(0, 2),
    now_ms=st.integers(0, 2 * ISSUED_MS),
    synced=st.booleans(),
)
def test_the_place_never_goes_back(order: Want, seen: Seen, epoch: int, now_ms: int, *, synced: bool) -> None:
    trust = msgspec.structs.replace(TRUST, epoch=epoch)
    found = decided(order, seen=seen, trust=trust, now_ms=now_ms, synced=synced)
    if isinstance(found, Accepted | Late | Noted):
        assert found.seen.place == order.place
        assert not seen.sha256 or order.place > seen.place
        assert order.epoch == epoch
