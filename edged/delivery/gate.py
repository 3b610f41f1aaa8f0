"""Why an order in force does not go on now, if something stands in its way. Pure: the moment comes in as a value.

Nothing here ends an order: what it names passes, by itself or by somebody's hand.
"""

from __future__ import annotations

import msgspec

from edged.delivery.record import Held, Order
from edged.errors import Fault, fault


class Moment(msgspec.Struct, frozen=True):
    """`overdue` says that the order's time is over; `waited_s` how long it is in force here; `delay_s` how long
    this box waits so that not all boxes begin at once. `closed` says why push.install does not allow a trial now.
    """

    overdue: Fault | None = None
    waited_s: float = 0.0
    delay_s: float = 0.0
    closed: Fault | None = None


def before_fetch(order: Order, held: Held | None, moment: Moment) -> Fault | None:
    """What keeps the release from being fetched."""
    want = order.want
    if held is not None:
        return fault("pinned", held.told)
    if want is None:
        return None
    problem = paused(order)
    if problem is not None:
        return problem
    if moment.overdue is not None:
        return moment.overdue
    if moment.waited_s < moment.delay_s:
        left_s = moment.delay_s - moment.waited_s
        return fault("not_now", f"its turn comes in {left_s:.0f} s: the boxes begin one after another", "")
    return None


def before_trial(order: Order, held: Held | None, moment: Moment) -> Fault | None:
    """What keeps the release, which is on the disk, from being tried."""
    problem = before_fetch(order, held, moment)
    if problem is not None or order.want is None or order.released:
        return problem
    closed = moment.closed
    # Hours are for a plant's convenience; where it is manual, a person decides.
    return None if closed is not None and closed.code == "not_now" and order.want.urgent else closed


def paused(order: Order) -> Fault | None:
    """What keeps even a release that has passed its trial from switching: boxes that have not yet stop."""
    return fault("paused", "the rollout is paused") if order.want is not None and order.want.rollout.pause else None


def only_fetched(order: Order) -> bool:
    """Whether it ends, for now, with the release on the disk."""
    return order.want is not None and order.want.action == "download_only" and not order.released
