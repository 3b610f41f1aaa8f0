"""On what terms a release goes to boxes, and whether the order that lies on the broker says just that already. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from edged.delivery.documents import Rollout, Want, Watching
from edged.fleet.ordering import LIVES_S
from edged.fleet.parcel import Parcel
from edged.fleet.view import Fleet, Published, within

_SALT: Final = 16  # characters of the release's hash: other boxes come first with each release


class Terms(msgspec.Struct, frozen=True):
    """What an operator asks for. `to` as documents have it; `lives_s`: how long boxes may begin."""

    to: str
    percent: float = 100.0
    allow_downgrade: bool = False
    retry: bool = False
    urgent: bool = False
    download_only: bool = False
    lives_s: float = LIVES_S
    probation: Watching = Watching()

    def want(self, parcel: Parcel, epoch: int, fleet: Fleet) -> Want:
        """The order without its place and times. Boxes that are in the percent of what lies there stay in."""
        there = lying(fleet, parcel.release.model, self.to)
        salt = parcel.sha256[:_SALT]
        if there is not None and isinstance(there.order, Want) and there.order.release == parcel.sha256:
            salt = there.order.rollout.salt or salt
        return Want(
            parcel.release.model,
            self.to,
            0,
            0,
            0,
            parcel.sha256,
            parcel.release.version,
            epoch,
            "download_only" if self.download_only else "install",
            self.allow_downgrade,
            self.urgent,
            self.retry,
            Rollout(self.percent, salt) if self.percent < 100 else Rollout(),
            self.probation,
        )


def lying(fleet: Fleet, model: str, to: str) -> Published | None:
    """The order that lies there for `to`, if it counts."""
    return next(
        (one for one in fleet.wants if (one.model, one.to) == (model, to) and one.signed is not False),
        None,
    )


def in_force(fleet: Fleet, want: Want, now_ms: int) -> Want | None:
    """The order on the broker that makes `want` needless: the same terms, time left, and nothing newer in its way."""
    found = lying(fleet, want.model, want.to)
    if found is None or not isinstance(found.order, Want) or want.retry:
        return None
    order = found.order
    placed = msgspec.structs.replace(want, seq=order.seq, issued=order.issued, expires=order.expires, retry=order.retry)
    if placed != order or order.expires <= now_ms:
        return None
    newer = (one for one in fleet.wants if one.model == want.model and one.signed is not False)
    return None if any(_overrules(one, order) for one in newer) or _passed_over(fleet, order) else order


def _passed_over(fleet: Fleet, order: Want) -> bool:
    """Whether a box says that it follows a newer want, be it one that lies there no more."""
    boxes = (box.model(order.model) for box in fleet.boxes if box.online and within(order.to, box))
    said = (its.install.want for its in boxes if its is not None)
    return any(one is not None and one.overrules(order) for one in said)


def _overrules(one: Published, order: Want) -> bool:
    """Whether boxes of `order` may follow another release because of `one`."""
    if one.order.place <= order.place or one.to == order.to:
        return False
    apart = one.to.startswith("device/") and order.to.startswith("device/")
    return not apart and not (isinstance(one.order, Want) and one.order.release == order.release)
