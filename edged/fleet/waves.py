"""A rollout in waves: what to do next, from the fleet as it is now. Pure, and nothing is remembered.

The rules:

1. A wave is the boxes that a want's percent covers. Who they are is in the want (its salt), so whoever looks finds
   the same, and raising the percent only adds boxes.
2. Boxes that an operator holds or has installed another release on, and those for which a newer order counts, are
   not asked.
3. More failures than `min_fail`, and more than `max_fail` percent of those that could tell: the rollout halts.
   Both strictly, so that neither one box of three nor three of a thousand do. Failed boxes have gone back by
   themselves.
4. The next wave begins when `DONE` percent of the wave's online boxes are done and `soak_s` has passed since the
   want was signed. Boxes that are offline are not waited for, and never count as done.
5. A wave without a box is no success, it is the end. The first one is given a salt that puts a box into it.
6. When nobody is on the way any more and too few are done, waiting changes nothing: it ends. Who refuses the order
   itself is not on the way, once the order has had its time to get there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from edged.delivery.documents import Rollout, Want
from edged.delivery.want import takes_part
from edged.fleet.standing import Standing, of
from edged.fleet.view import Box, Fleet, Model, Published, within

DONE: Final = 90.0
_OVERTAKEN_MS: Final = 60_000  # by then a box that is online has taken an order, or has said why not
_SALTS: Final = 20_000  # tried at most; with one box and a wave of 1 % each fits with a chance of 1 in 100


class Plan(msgspec.Struct, frozen=True):
    """`waves`: percents, rising. `max_fail` is a percent too, `min_fail` a number of boxes."""

    waves: tuple[float, ...] = (1.0, 10.0, 50.0, 100.0)
    soak_s: float = 1800.0
    max_fail: float = 2.0
    min_fail: int = 2
    done: float = DONE


class Wave(msgspec.Struct, frozen=True):
    """The boxes of a wave, counted; `lost` are among `failed`. `told`: those that could tell, online or failed.
    `open`: those online that have not had their say, `what` says of how many what; `refusing` are among them.
    """

    percent: float
    size: int
    online: int
    done: int
    failed: int
    lost: int
    told: int
    open: int
    refusing: int
    what: str

    def __str__(self) -> str:
        words = [f"{self.percent:g} %: {self.done} of {self.size} done"]
        words += [f"{self.failed} failed" + (f" ({self.lost} fell silent)" if self.lost else "")] if self.failed else []
        words += [self.what] if self.open else []
        words += [f"{self.size - self.online} offline"] if self.size > self.online else []
        return ", ".join(words)


class Wait(msgspec.Struct, frozen=True):
    """Look again later. `left_s`: how much longer the wave soaks."""

    wave: Wave
    why: str
    left_s: float = 0.0


class Publish(msgspec.Struct, frozen=True):
    """The next want. `pause`: this is the halt."""

    percent: float
    salt: str
    why: str
    pause: bool = False
    retry: bool = False


class End(msgspec.Struct, frozen=True):
    """Nothing more to do here; `ok` when all waves are through."""

    ok: bool
    why: str
    wave: Wave | None = None


Step = Wait | Publish | End


class Target(msgspec.Struct, frozen=True):
    """What shall be where: a release (its hash) of a model on the boxes of `to`."""

    model: str
    to: str
    release: str


def step(fleet: Fleet, target: Target, plan: Plan, now_ms: int, *, fresh: bool = False, retry: bool = False) -> Step:
    """What comes next. `now_ms` is the wall clock.

    `fresh`: the operator has said so just now, which is the word to begin, and to go on after a pause; without it, both
    are somebody else's doing, and the end. `retry`: in that moment, boxes that failed this release may try it again.
    """
    everyone = members(fleet, target)
    if not everyone:
        return End(False, f"no box of {target.to} has the model {target.model}")
    current = lying(fleet, target)
    asked = [of(box, its, current) for box, its in everyone if current == fleet.newest(target.model, box)]
    if current is None or not asked:
        return _begin(target, plan, [box.name for box, _ in everyone if box.online], fresh=fresh, retry=retry)
    want = current.order
    if not isinstance(want, Want):
        raise TypeError("`lying` finds wants")
    wave = count(want.rollout, asked)
    overtaken = _overtaken(want, asked, now_ms)
    if overtaken and not fresh:
        return End(False, "the boxes follow a newer order than the one that lies on the broker", wave)
    if overtaken:
        return Publish(want.rollout.percent, want.rollout.salt, f"goes on at {wave.percent:g} %", retry=retry)
    if not wave.size:
        return End(False, f"{want.rollout.percent:g} % of {target.to} are no box at all", wave)
    if exceeded(plan, wave.failed, wave.told) or want.rollout.pause:
        return _halted(want, wave, plan, fresh=fresh, retry=retry)
    return _next(want, wave, plan, now_ms)


def members(fleet: Fleet, target: Target) -> list[tuple[Box, Model]]:
    """The boxes that are meant, as far as they have the model."""
    return [(box, its) for box in fleet.boxes if within(target.to, box) and (its := box.model(target.model))]


def lying(fleet: Fleet, target: Target) -> Published | None:
    """The want for this target, where it is what lies on its topic."""
    for one in fleet.wants:
        order = one.order
        ours = (one.model, one.to, order.release) == (target.model, target.to, target.release)
        if ours and isinstance(order, Want) and one.signed is not False:
            return one
    return None


def _overtaken(want: Want, asked: Sequence[Standing], now_ms: int) -> bool:
    """Whether boxes follow a newer order than the one that lies there, and none follows this one: two operators wrote
    at one moment, or the broker came back with an old memory. One box that lies cannot make it so.
    """
    online = (one for one in asked if one.box.online and takes_part(want.rollout, one.box.name))
    places = [one.model.install.want.place for one in online if one.model.install.want is not None]
    return (
        now_ms > want.issued + _OVERTAKEN_MS
        and want.place not in places
        and max(places, default=want.place) > want.place
    )


def count(rollout: Rollout, asked: Sequence[Standing]) -> Wave:
    """The wave that `rollout` makes of the boxes that were asked."""
    wave = [one for one in asked if takes_part(rollout, one.box.name) and one.state not in ("held", "local")]
    unsettled = [one for one in wave if one.box.online and not one.settled]
    open_ = Counter(
        (one.phase if one.state == "busy" else one.state) + (f" ({one.code})" if one.code else "") for one in unsettled
    )
    return Wave(
        rollout.percent,
        len(wave),
        sum(one.box.online for one in wave),
        sum(one.done for one in wave),
        sum(one.failed for one in wave),
        sum(one.lost for one in wave),
        sum(one.box.online or one.failed for one in wave),
        len(unsettled),
        sum(one.state == "behind" and one.refused != "" for one in unsettled),
        ", ".join(f"{number} {what}" for what, number in sorted(open_.items())),
    )


def exceeded(plan: Plan, failed: int, told: int) -> bool:
    """Whether so many failures of `told` boxes are too many: more than the number and more than the percent."""
    return failed > plan.min_fail and failed * 100 > plan.max_fail * told


def choose_salt(release: str, percent: float, names: Sequence[str]) -> str | None:
    """A salt that puts at most as many of these boxes into the first wave as its percent says, and at least one.

    Always the same for the same boxes; None when there are none.
    """
    most = max(1, math.ceil(len(names) * percent / 100))
    for number in range(_SALTS if names else 0):
        rollout = Rollout(percent, f"{release[:16]}-{number}")
        if 1 <= sum(takes_part(rollout, name) for name in names) <= most:
            return rollout.salt
    return None


def _begin(target: Target, plan: Plan, online: Sequence[str], *, fresh: bool, retry: bool) -> Step:
    if not fresh:
        return End(False, f"another order counts for {target.to} now")
    percent = plan.waves[0]
    salt = choose_salt(target.release, percent, online)
    if salt is None:
        return End(False, f"no box of {target.to} that has the model {target.model} is online")
    return Publish(percent, salt, f"begins with {percent:g} %", retry=retry)


def _halted(want: Want, wave: Wave, plan: Plan, *, fresh: bool, retry: bool) -> Step:
    """Too many have failed, or somebody has paused it."""
    rollout = want.rollout
    too_many = exceeded(plan, wave.failed, wave.told)
    why = f"{wave.failed} of {wave.told} failed, more than {plan.min_fail} and more than {plan.max_fail:g} %"
    if not rollout.pause:
        return Publish(rollout.percent, rollout.salt, f"halts: {why}", pause=True)
    if too_many and not (fresh and retry):
        return End(False, f"halted at {wave.percent:g} %: {why}", wave)
    if not fresh:
        return End(False, f"paused at {wave.percent:g} %", wave)
    return Publish(rollout.percent, rollout.salt, f"goes on at {wave.percent:g} %", retry=retry)


def _next(want: Want, wave: Wave, plan: Plan, now_ms: int) -> Step:
    if not wave.online:
        return Wait(wave, "all of its boxes are offline")
    through = wave.done * 100 >= plan.done * wave.online
    soak_s = min(plan.soak_s, (want.issued - now_ms) / 1000 + plan.soak_s)
    on_the_way = wave.open - (wave.refusing if now_ms > want.issued + _OVERTAKEN_MS else 0)
    if not through and (on_the_way or soak_s > 0):
        return Wait(wave, f"fewer than {plan.done:g} % of the online ones are done")
    if not through:
        return End(False, f"fewer than {plan.done:g} % are done and none is on the way any more", wave)
    if soak_s > 0:
        return Wait(wave, "soaks", soak_s)
    following = next((percent for percent in plan.waves if percent > wave.percent), None)
    if following is None:
        return End(True, "all waves are through", wave)
    return Publish(following, want.rollout.salt, f"goes on to {following:g} %")
