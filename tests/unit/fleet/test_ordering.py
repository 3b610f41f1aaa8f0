"""A want and its undo: their places in the sequence, their signatures, and which of them is laid down first."""

from __future__ import annotations

import pytest

from edged.delivery import keys, trust
from edged.delivery.documents import Role, Roles, Rollout, Trust, Undo, Want
from edged.delivery.envelope import Envelope, Signature
from edged.fleet import ordering
from edged.fleet.view import Fleet, Published
from edged.topics import Ota

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
    ],
)
def test_a_place_is_above_what_lies_there_already(fleet: Fleet, seq: int) -> None:
    assert ordering.next_seq(fleet, "digits", 0, NOW) == seq


def test_both_are_signed_and_the_undo_lies_there_before_its_want() -> None:
    secret = keys.generate("ed25519")
    role = Role((secret.keyid,))
    anchor = Trust(1, {secret.keyid: secret.key}, Roles(role, role, role))

    def sign(envelope: Envelope) -> Envelope:
        signature = Signature(secret.keyid, secret.sign(envelope.signed))
        return Envelope(envelope.kind, envelope.payload, (*envelope.signatures, signature))

    there: list[tuple[str, bytes]] = []
    want, undo = ordering.draw(Fleet(), WANT, NOW)
    ordering.publish(Ota("edged"), want, undo, sign, lambda topic, payload: there.append((topic, payload)))
    assert [topic for topic, _ in there] == [
        "edged/ota/undo/digits/group/line-2",
        "edged/ota/want/digits/group/line-2",
    ]
    assert [trust.order(anchor, payload).document for _, payload in there] == [undo, want]
