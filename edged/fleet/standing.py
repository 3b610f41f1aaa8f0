"""What a box has made of the order that counts for it, by its own last word and the broker's. Pure.

A box that is not online is never done, whatever its last word was; one that fell silent between trial and the
end of probation counts as lost to the release until it says otherwise.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from edged.delivery.documents import Undo, Want
from edged.delivery.want import takes_part
from edged.fleet.view import Box, Fleet, Install, Model, Published

State = Literal["live", "stored", "undone", "busy", "waiting", "failed", "held", "local", "behind", "outside", "none"]
"""live: runs what is wanted | stored: has it, as `download_only` asks | undone: has gone back as asked | busy: on its
way | waiting: says why | failed: refused it, or gone back from it | held: by an operator on the box | local: a person
there has installed another release after it | behind: has not taken the order yet | outside: not among its percent |
none: no order is for it.
"""

_UNDER_WAY: Final = frozenset({"offered", "downloading", "verified", "trial", "probation"})
_AT_RISK: Final = frozenset({"trial", "probation"})  # the release runs, and may take the box with it
_REFUSALS: Final = frozenset({"failed", "rejected", "rolled_back"})
_MOOT: Final = frozenset({"undone", "superseded", "not_meant"})  # refusals that say nothing of the release
_PATIENT: Final = frozenset({"", "not_now", "manual", "paused", "busy"})  # reasons to wait that need nobody
_BAD_FLAGS: Final = frozenset({"untrusted_active", "no_previous"})


class Standing(msgspec.Struct, frozen=True):
    """Where one model of one box stands. `code` and `why` say more, as the box does; `phase` where it is busy."""

    box: Box
    model: Model
    order: Published | None
    state: State
    code: str = ""
    phase: str = ""
    why: str = ""

    @property
    def refused(self) -> str:
        """Why the box says no to what lies where the order is: mostly to the order, and a moment long to another."""
        return self.model.install.refused.get(self.order.to, "") if self.order else ""

    @property
    def done(self) -> bool:
        """It is where the order wants it, and there to prove it."""
        return self.box.online and self.state in ("live", "stored", "undone")

    @property
    def lost(self) -> bool:
        """It fell silent while it tried or watched the release."""
        return not self.box.online and self.state == "busy" and self.phase in _AT_RISK

    @property
    def failed(self) -> bool:
        return self.state == "failed" or self.lost

    @property
    def settled(self) -> bool:
        """Nothing more will come by itself."""
        return self.done or self.failed

    @property
    def bad(self) -> bool:
        """Somebody should look at it."""
        return (
            not self.box.online
            or self.failed
            or self.state == "behind"
            or (self.state == "waiting" and self.code not in _PATIENT)
            or self.model.state == "failed"
            or not _BAD_FLAGS.isdisjoint(self.model.install.flags)
        )


def standings(fleet: Fleet, model: str) -> tuple[Standing, ...]:
    """Each box that has this model, to the order that counts for it."""
    found = []
    for box in fleet.boxes:
        its = box.model(model)
        if its is not None:
            found.append(of(box, its, fleet.newest(model, box)))
    return tuple(found)


def of(box: Box, model: Model, order: Published | None) -> Standing:
    """Where `model` on `box` stands to `order`."""
    install = model.install
    if order is None:
        return Standing(box, model, None, "none", install.code, install.phase, install.message)
    state = _undoing(install, order.order) if isinstance(order.order, Undo) else _wanting(box, install, order.order)
    code = "paused" if state == "waiting" and install.phase != "waiting" and _paused(order.order) else install.code
    if state == "behind":  # it may have said no to this very order; what it says of another release is beside the point
        elsewhere = install.about is not None and install.about.release != order.order.release
        code = install.refused.get(order.to) or ("" if elsewhere else code)
    return Standing(box, model, order, state, code, install.phase, install.message)


def _undoing(install: Install, undo: Undo) -> State:
    on_it = any(one is not None and one.release == undo.release for one in (install.active, install.candidate))
    return "behind" if on_it else "undone"


def _wanting(box: Box, install: Install, want: Want) -> State:
    about = _is_about(install, want)
    runs = install.active is not None and install.active.release == want.release
    known = install.want is not None and install.want.place >= want.place
    if want.action == "download_only" and about and "downloaded" in install.flags and install.phase not in _AT_RISK:
        return "stored"
    if about and install.phase in _UNDER_WAY:
        return "busy"
    if runs:
        return "live"
    if about and install.verdict in _REFUSALS and install.code not in _MOOT and (known or not want.retry):
        return "failed"
    if install.held:
        return "held"
    if about and install.phase == "waiting":
        return "waiting"
    if not takes_part(want.rollout, box.name):
        return "outside"
    if install.want is not None and install.want.overrules(want):
        return "behind"
    if install.want is not None and not about and install.want.seen >= want.place:
        return "local"
    if _paused(want) or known:
        return "waiting"
    return "behind"


def _is_about(install: Install, want: Want) -> bool:
    """Whether the box speaks of this release."""
    subject = install.candidate or install.about
    if subject is not None and subject.release:
        return subject.release == want.release
    return install.want is not None and install.want.release == want.release


def _paused(order: Want | Undo) -> bool:
    return isinstance(order, Want) and order.rollout.pause
