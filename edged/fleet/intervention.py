"""An operator's word to what is under way: pause it, or go back by the undo that lies ready.

Pausing is a want, so it takes the deploy key. Going back takes the right to publish and no key: the undo was
signed together with its want.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from edged.delivery.documents import Undo, Want
from edged.errors import EdgedError
from edged.fleet import ordering
from edged.fleet.ordering import Bring, Sign
from edged.fleet.standing import Standing, standings
from edged.fleet.view import Fleet, Published
from edged.topics import Ota

_PUSH: Final = "Push a release first: `edged push`."


class Undone(msgspec.Struct, frozen=True):
    """`boxes` are told one by one; () with `all` set: one word for all of them. Neither: nothing had to be done."""

    undo: Published
    all: bool = False
    boxes: tuple[str, ...] = ()


def newest(fleet: Fleet, model: str, to: str = "") -> tuple[Published, Want]:
    """The newest want of a model, or of those for `to`. Raises EdgedError `no_order`."""
    found = [
        (one, one.order)
        for one in fleet.wants
        if one.model == model and one.signed is not False and isinstance(one.order, Want) and to in ("", one.to)
    ]
    if not found:
        raise EdgedError("no_order", f"no want of {model} for {to or 'anybody'} lies on the broker", _PUSH)
    return max(found, key=lambda one: one[1].place)


def pause(fleet: Fleet, model: str, to: str, ota: Ota, sign: Sign, bring: Bring, now_ms: int) -> Want | None:
    """Stops the boxes that have not switched; the paused want, None when it is paused already. Raises EdgedError."""
    _, want = newest(fleet, model, to)
    if want.rollout.pause:
        return None
    paused = msgspec.structs.replace(want, rollout=msgspec.structs.replace(want.rollout, pause=True), retry=False)
    lives_s = max(0.0, (want.expires - now_ms) / 1000)
    order, way_back = ordering.draw(fleet, paused, now_ms, lives_s)
    ordering.publish(ota, order, way_back, sign, bring)
    return order


def undo(fleet: Fleet, model: str, to: str, ota: Ota, bring: Bring, *, only_bad: bool) -> Undone:
    """Sends the boxes of the newest want back, or the bad ones among them. Raises EdgedError `no_order`, `no_undo`."""
    ready = _ready(fleet, model, to)
    if not only_bad:
        if any(one.content == ready.content and one.to == ready.to for one in fleet.wants):
            return Undone(ready)
        bring(ota.want(model, ready.to), ready.content)
        return Undone(ready, all=True)
    boxes = tuple(one.box.name for one in _bad(fleet, ready))
    for name in boxes:
        bring(ota.want(model, f"device/{name}"), ready.content)
    return Undone(ready, boxes=boxes)


def _ready(fleet: Fleet, model: str, to: str) -> Published:
    """The undo of the newest order: the one that was signed with it, or that it is."""
    used = [one for one in fleet.wants if one.model == model and isinstance(one.order, Undo) and to in ("", one.to)]
    last = fleet.last(model)
    if last is not None and last in used and last.to == last.order.to:
        return last
    _, want = newest(fleet, model, to)
    for one in fleet.undos:
        order = one.order
        theirs = (one.model, one.to, order.release, order.epoch, order.seq - 1)
        if theirs == (model, want.to, want.release, want.epoch, want.seq) and one.signed is not False:
            return one
    raise EdgedError(
        "no_undo",
        f"no undo of version {want.version} of {model} for {want.to} lies on the broker",
        "Push the version that you want, with --allow-downgrade.",
    )


def _bad(fleet: Fleet, ready: Published) -> Iterable[Standing]:
    """The bad boxes that the undo's want counts for and that run its release, or may come to."""
    release = ready.order.release
    for one in standings(fleet, ready.model):
        order = one.order.order if one.order else None
        counts = isinstance(order, Want) and order.release == release and order.to == ready.to
        runs = one.model.install.active is not None and one.model.install.active.release == release
        back = one.state in ("failed", "outside", "held", "local") and not runs and not one.lost
        if counts and one.bad and not back:
            yield one
