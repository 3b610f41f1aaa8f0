"""What an order (a want or an undo) means for this box. Pure: documents, places and the time come in.

The rules, in the order in which they are asked:

1. An order is for the model and the boxes that its topic names, and this box is one of them. An undo may also
   come on a topic for fewer boxes than it is for: that is how the bad ones alone go back.
2. Of all orders for a model the one with the highest place (epoch, seq) counts, whomever it is for (newest wins
   over scope). The same document at the place seen last is known, another one there is a misuse of the key, one
   below it a replay.
3. A trust document with a higher epoch lets every sequence begin anew: that is the way back after somebody used
   up the sequence with a stolen key. An order of an earlier epoch is a replay, one of a later epoch has to wait
   for its trust document.
4. With a clock that can be trusted, a place or a time more than a day ahead is refused: sequences are made from
   the wall clock, so nobody honest is there.
5. A box outside of the order's percent notes the place, or an older order would still be in force there.
6. A want past its time takes its place too, and begins nothing (`overdue`); nor does any once the trust document
   is past its time, or drops the keys that have signed it, or begins another epoch. An undo past its own time
   does nothing either; a clock that nobody set keeps no box from going back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from edged.delivery.documents import Order, Rollout, Trust, Undo, Want
from edged.delivery.trust import Signed, counts
from edged.errors import Fault, fault
from edged.observe.clock import RELEASED_S

AHEAD_MS: Final = 24 * 3600 * 1000
_BUCKETS: Final = 10_000


class Box(msgspec.Struct, frozen=True):
    """Whom this box answers for."""

    device: str
    groups: tuple[str, ...] = ()


class Seen(msgspec.Struct, frozen=True):
    """The highest place of a model's orders so far, whose it was, and the latest `issued` of its epoch."""

    epoch: int = 0
    seq: int = 0
    sha256: str = ""
    issued: int = 0

    @property
    def place(self) -> tuple[int, int]:
        return self.epoch, self.seq


class Accepted(msgspec.Struct, frozen=True):
    """It is in force from now on."""

    seen: Seen


class Late(msgspec.Struct, frozen=True):
    """It is in force, and begins nothing: `overdue` said `fault` of it, and may say otherwise when the clock is set."""

    seen: Seen
    fault: Fault


class Noted(msgspec.Struct, frozen=True):
    """Its place counts, and no more: this box is not among its percent, or it is an undo past its time."""

    seen: Seen


class Known(msgspec.Struct, frozen=True):
    """It is the one seen last: brokers send retained orders at each connection."""


class Replay(msgspec.Struct, frozen=True):
    """It is older than the one seen last: to be counted, no more."""


class Refused(msgspec.Struct, frozen=True):
    """It is not for this box, or misused: bad_document, seq_conflict."""

    fault: Fault


Decided = Accepted | Late | Noted | Known | Replay | Refused


def decide(
    signed: Signed[Order],
    topic_model: str,
    topic_to: str,
    box: Box,
    seen: Seen,
    trust: Trust,
    now_ms: int,
    *,
    synced: bool = True,
) -> Decided:
    """What `signed`, which came on want/<topic_model>/<topic_to>, means. `now_ms` as `current_ms` gives it.

    `synced`: whether the box's clock has been set by another one.
    """
    order = signed.document
    if not _fits(order, topic_model, topic_to, box):
        return Refused(fault("bad_document", f"the order is for {order.model} of {order.to}, not for this topic"))
    if seen.sha256 and order.place == seen.place:
        return Known() if signed.sha256 == seen.sha256 else Refused(_conflict(order))
    if order.place < seen.place or order.epoch < trust.epoch:
        return Replay()
    if order.epoch > trust.epoch:
        text = f"its epoch is {order.epoch}, and that of the box's trust document {trust.epoch}"
        return Refused(fault("bad_document", text, "Publish the trust document too: `edged push` does."))
    if synced and max(order.seq, order.issued) > now_ms + AHEAD_MS:
        text = "its time or its place in the sequence is more than a day ahead of this box's clock"
        return Refused(fault("bad_document", text, "Set the clock of the machine that signs."))
    known = seen.issued if seen.epoch == order.epoch else 0
    moved = Seen(order.epoch, order.seq, signed.sha256, max(known, order.issued))
    if isinstance(order, Undo):
        return Noted(moved) if synced and now_ms >= order.expires else Accepted(moved)
    if not takes_part(order.rollout, box.device):
        return Noted(moved)
    late = overdue(order, trust, now_ms, synced=synced)
    return Accepted(moved) if late is None else Late(moved, late)


def overdue(
    order: Want, trust: Trust, now_ms: int, *, synced: bool = True, signers: Iterable[str] | None = None
) -> Fault | None:
    """Why `order`, which was accepted once, may begin nothing now.

    `signature`: of its `signers`, where they are given, too few count for `trust` any more; `replayed`: it is of an
    epoch before that of `trust`; `expired`, or `clock_suspect` where nobody has set the clock that says so.
    """
    if signers is not None and not counts(trust, "deploy", signers):
        return fault("signature", "too few of the keys that have signed the order still count")
    if order.epoch < trust.epoch:
        return fault("replayed", f"the order is of epoch {order.epoch}, the trust document of {trust.epoch}")
    for name, expires in (("order", order.expires), ("trust document", trust.expires)):
        if expires is None or now_ms < expires:
            continue
        if synced:
            hint = "Publish a successor: `edged trust rotate --expires 365d`." if name != "order" else None
            return fault("expired", f"the {name} is past its time", hint)
        text = f"the {name} is past its time by the box's clock, which nothing has set"
        return fault("clock_suspect", text, "Set the clock of the box; if it is right, push again.")
    return None


def current_ms(wall_ms: int, seen: Iterable[Seen], epoch: int) -> int:
    """The time to judge orders by: a clock without a battery starts in 1970, and these moments have been.

    `epoch` is that of the trust document: a time that came with an earlier one may have been a thief's.
    """
    return max(wall_ms, RELEASED_S * 1000, *(one.issued for one in seen if one.epoch == epoch), 0)


def covers(to: str, box: Box) -> bool:
    """Whether `to` (all, group/<g>, device/<d>) means this box."""
    kind, _, name = to.partition("/")
    return to == "all" or (kind == "group" and name in box.groups) or (kind == "device" and name == box.device)


def means(want: Want, box: Box) -> bool:
    """Whether `want` is for this box: it covers it, and the box is among the percent."""
    return covers(want.to, box) and takes_part(want.rollout, box.device)


def takes_part(rollout: Rollout, device: str) -> bool:
    """Whether `device` is among the percent. Raising the percent adds boxes and leaves none out."""
    return int.from_bytes(_digest(rollout, device)[:8], "big") % _BUCKETS < rollout.percent * (_BUCKETS / 100)


def delay_s(rollout: Rollout, device: str) -> float:
    """How long `device` waits before it begins: from 0 up to `spread_s`, always the same."""
    return int.from_bytes(_digest(rollout, device)[8:14], "big") / 2**48 * rollout.spread_s


def _digest(rollout: Rollout, device: str) -> bytes:
    # A device's name has no "/", so that no two pairs give one text.
    return hashlib.sha256(f"{rollout.salt}/{device}".encode()).digest()


def _fits(order: Order, topic_model: str, topic_to: str, box: Box) -> bool:
    if order.model != topic_model or not covers(order.to, box) or not covers(topic_to, box):
        return False
    narrower = order.to == "all" or (order.to.startswith("group/") and topic_to.startswith("device/"))
    return topic_to == order.to or (isinstance(order, Undo) and narrower)


def _conflict(order: Order) -> Fault:
    return fault("seq_conflict", f"two orders carry the place {order.epoch}/{order.seq}")
