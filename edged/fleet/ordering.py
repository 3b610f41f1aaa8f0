"""A want and the undo beside it: drawn up for the next place in the sequence, signed, and laid on the broker.

The undo goes first, so that no want is in force without its way back; both are looked for afterwards, because a
PUBACK is no proof.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from edged.delivery import documents
from edged.delivery.documents import Order, Undo, Want
from edged.delivery.envelope import Envelope
from edged.delivery.strict import Malformed
from edged.delivery.want import AHEAD_MS
from edged.errors import EdgedError
from edged.fleet.view import Fleet
from edged.topics import Ota

LIVES_S: Final = 30 * 86400.0
"""How long a want begins installations when nobody says otherwise."""
_UNDO_LIVES_S: Final = 365 * 86400.0  # it is worth nothing but beside its want, and must not be missing then

Sign = Callable[[Envelope], Envelope]
"""Adds the signatures of the deploy keys."""


Bring = Callable[[str, bytes], None]
"""Lays a retained message (topic, payload) on the broker and returns when it was seen there. Raises EdgedError."""


def next_seq(fleet: Fleet, model: str, epoch: int, now_ms: int) -> int:
    """The next place in a model's sequence: the wall clock, or one more than the highest of this epoch that lies on the
    broker, or that a box says it has seen. Two are needed: for the want and its undo.

    Nobody can use up the sequence: orders count that are signed as they must be, and of what boxes say, which is not
    signed, what they would take themselves. Nor can a clock that was days ahead once: boxes whose clock is set refuse
    its orders, and would refuse each one above them, so such an order counts where a box says that it follows it.
    """
    ahead = now_ms + AHEAD_MS
    lying = (one.order for one in (*fleet.wants, *fleet.undos) if one.model == model and one.signed is not False)
    wants = [its.install.want for box in fleet.boxes if (its := box.model(model)) and its.install.want]
    said = [one.seq for one in wants if one.epoch == epoch]
    followed = max(said, default=0) + 1  # and the undo beside it
    seqs = [one.seq for one in lying if one.epoch == epoch and (one.seq < ahead or one.seq <= followed)]
    seqs += [seq for seq in said if seq < ahead]
    return max([now_ms, *(seq + 1 for seq in seqs)])


def draw(fleet: Fleet, want: Want, now_ms: int, lives_s: float = LIVES_S) -> tuple[Want, Undo]:
    """`want` (its place and times do not matter) at the next place of its epoch, and the undo at the one after it."""
    seq = next_seq(fleet, want.model, want.epoch, now_ms)
    placed = msgspec.structs.replace(want, seq=seq, issued=now_ms, expires=now_ms + round(lives_s * 1000))
    undo_expires = now_ms + round(max(lives_s, _UNDO_LIVES_S) * 1000)
    return placed, Undo(want.model, want.to, seq + 1, now_ms, undo_expires, want.release, want.epoch)


def scope(text: str) -> str:
    """`all`, `group:G` or `device:D`, as people write it, as documents have it. Raises EdgedError `bad_config`."""
    found = text.replace(":", "/", 1)
    if not documents.is_scope(found):
        hint = "all, group:G or device:D; names have letters, digits, - and _."
        raise EdgedError("bad_config", f"--to {text[:70]}: that is nobody", hint)
    return found


def seal(order: Order, sign: Sign) -> bytes:
    """The order as a signed envelope. Raises EdgedError `bad_config` for one that every box would refuse."""
    payload = documents.encode(order)
    try:
        kind = "want" if isinstance(order, Want) else "undo"
        _ = documents.read_want(payload) if kind == "want" else documents.read_undo(payload)
    except Malformed as error:
        raise EdgedError("bad_config", f"no box would take that order: {error}", "") from error
    return sign(Envelope(kind, payload)).encode()


def publish(ota: Ota, want: Want, undo: Undo, sign: Sign, bring: Bring) -> tuple[bytes, bytes]:
    """Signs both and lays them on the broker, the undo first; their envelopes. Raises what `sign` and `bring` do."""
    way_back, order = seal(undo, sign), seal(want, sign)
    bring(ota.undo(undo.model, undo.to), way_back)
    bring(ota.want(want.model, want.to), order)
    return way_back, order
