"""What has become of one order, box by box, and whether there is anything left to wait for. Pure."""

from __future__ import annotations

from collections.abc import Container
from typing import Final, Literal

import msgspec

from edged.delivery.documents import Want
from edged.delivery.want import takes_part
from edged.errors import CODES
from edged.fleet.standing import Standing, of
from edged.fleet.view import Box, Fleet, Model, Published, Wanted, within

Fate = Literal["active", "failed", "open", "apart"]
"""active: as the order wants it | failed: will not be without somebody's help | open: under way | apart: not now."""

_BACK: Final = "Push with --retry: it takes the box back."
_AGAIN: Final = "The same command once more lays it down."
_OTHER_KEYS: Final = "It believes another trust document than yours: see push.trust on the box."
_UNREAD: Final = "Nothing that it says of the model comes here: may this user read <base>/+/install/+?"
_LATER: Final = frozenset({"not_now", "manual"})
_STUCK: Final = frozenset({"expired", "clock_suspect", "pinned", "no_trust", "paused", "banned"})


class Line(msgspec.Struct, frozen=True):
    """One box. `word` is what to say of it; `code` and `hint` are the box's own.

    `stalled`: what to say instead when it stays so, as nothing more comes of it by itself; "" where something may, or
    where it has stayed so.
    """

    box: str
    fate: Fate
    word: str
    code: str = ""
    message: str = ""
    hint: str = ""
    have: int = 0
    total: int = 0
    left_s: float | None = None
    most_s: float | None = None
    stalled: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """All boxes that the order is for, by name."""

    lines: tuple[Line, ...]

    @property
    def open(self) -> bool:
        return any(one.fate == "open" or one.stalled for one in self.lines)

    @property
    def good(self) -> bool:
        """Every online box that it is for now has it, and there is one."""
        fates = {one.fate for one in self.lines}
        return "active" in fates and not fates & {"failed", "open"}


class Absences:
    """Boxes that were online and have just gone: systemd starts a daemon that died again within seconds."""

    def __init__(self, online: Container[str], grace_s: float) -> None:
        """`online`: the boxes that were so when the order was made."""
        self._online: Final = online
        self._grace_s: Final = grace_s
        self._seen: Final[set[str]] = set()
        self._gone_s: Final[dict[str, float]] = {}

    def brief(self, fleet: Fleet, now_s: float) -> frozenset[str]:
        """Those that may be back in a moment. `now_s` never goes back."""
        for box in fleet.boxes:
            if box.online:
                self._seen.add(box.name)
                self._gone_s.pop(box.name, None)
            elif box.name in self._seen or box.name in self._online:
                self._gone_s.setdefault(box.name, now_s)
        return frozenset(name for name, gone_s in self._gone_s.items() if now_s < gone_s + self._grace_s)


class Patience:
    """With boxes that say no to the order, which may yet be the no to what lay there before, with those that do not
    have the model, which may yet make it of the order, and with a broker that has lost it, which may yet be filled.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s: Final = patience_s
        self._since_s: dict[tuple[str, str, str], float] = {}

    def settle(self, found: Outcome, now_s: float) -> Outcome:
        """What has stood still for so long is not open any more. `now_s` never goes back."""
        still = [(one.box, one.stalled, one.code) for one in found.lines if one.stalled]
        self._since_s = {key: self._since_s.get(key, now_s) for key in still}
        over = {box for (box, _, _), since_s in self._since_s.items() if now_s >= since_s + self._patience_s}
        return Outcome(tuple(_given_up(one) if one.box in over else one for one in found.lines))


def _given_up(line: Line) -> Line:
    fate: Fate = "failed" if line.fate == "open" else line.fate
    return msgspec.structs.replace(line, fate=fate, word=line.stalled, stalled="")


def outcome(fleet: Fleet, want: Want, absent: Container[str] = ()) -> Outcome:
    """How it stands. A box that is named and never said a word has a line too; those of `absent` are waited for."""
    boxes = [box for box in fleet.boxes if within(want.to, box)]
    kind, _, name = want.to.partition("/")
    if kind == "device" and fleet.box(name) is None:
        boxes.append(Box(name))
    return Outcome(tuple(_line(fleet, want, box, absent) for box in boxes))


def _line(fleet: Fleet, want: Want, box: Box, absent: Container[str]) -> Line:
    model = box.model(want.model)
    standing = of(box, model or Model(want.model), _order(fleet, want, box, model))
    if not box.online and box.name in absent:
        silent = f", fell silent in {standing.phase}" if standing.lost else ""
        return Line(box.name, "open", f"offline for a moment{silent}")
    if standing.lost:
        return Line(box.name, "failed", f"fell silent in {standing.phase}", hint="Look at the box.")
    if not box.online:
        return Line(box.name, "apart", "offline" if box.presence == "offline" else "never seen online")
    if model is None:
        none = f"has no model {want.model}"  # `push.models: any` makes one when the order has come
        return Line(box.name, "apart", none, stalled=none)
    order = standing.order.order if standing.order else None
    if order is None or (isinstance(order, Want) and order.place < want.place):
        lost = "the broker has lost the order"
        return Line(box.name, "open", "has not been reached by the order yet", hint=_AGAIN, stalled=lost)
    followed = standing.model.install.want
    newer = followed is not None and followed.overrules(want)
    if newer or (order.place > want.place and order.release != want.release):
        return Line(box.name, "apart", "follows a newer order")
    if not takes_part(want.rollout, box.name) and standing.state != "live":
        return Line(box.name, "apart", "not among the percent")
    if standing.state in ("failed", "held", "waiting") and not _has_taken(followed, want):
        return _behind(box.name, standing)  # it said so of an order before
    return _judged(box, standing, want)


def _has_taken(followed: Wanted | None, want: Want) -> bool:
    return followed is not None and max(followed.place, followed.seen) >= want.place


def _order(fleet: Fleet, want: Want, box: Box, model: Model | None) -> Published | None:
    """The order that counts for the box: `want` too where the broker has lost it and the box has not."""
    newest = fleet.newest(want.model, box)
    followed = model.install.want if model else None
    if followed is None or followed.place != want.place or (newest is not None and newest.order.place >= want.place):
        return newest
    return Published(want.model, want.to, want, b"")


def _judged(box: Box, standing: Standing, want: Want) -> Line:
    install = standing.model.install

    def said(fate: Fate, word: str) -> Line:
        return Line(box.name, fate, word, standing.code, install.message, install.hint)

    match standing.state:
        case "live" | "stored":
            flags = f" ({', '.join(install.flags)})" if install.flags else ""
            verb = "has" if standing.state == "stored" else "runs"
            return Line(box.name, "active", f"{verb} version {want.version}{flags}")
        case "failed":
            return said("failed", install.verdict or "failed")
        case "held":
            hint = "`edged unpin` on the box, or push with --retry."
            return Line(box.name, "failed", "held by somebody on the box", "pinned", hint=hint)
        case "local":
            version = install.want.version if install.want else ""
            return Line(box.name, "failed", f"a person on the box has installed version {version or '?'}", hint=_BACK)
        case "waiting" if standing.code in _LATER:
            return said("apart", f"waits: {install.message or standing.code}")
        case "waiting" if standing.code in _STUCK:
            return said("failed", "does not begin")
        case "outside":
            return Line(box.name, "apart", "not among the percent")
        case "undone":
            return Line(box.name, "apart", "has gone back by an undo")
        case "behind":
            return _behind(box.name, standing)
        case _:
            another = standing.state == "waiting" and install.phase == "probation"  # which comes to its end first
            return msgspec.structs.replace(
                said("open", "waits for another release's probation" if another else install.phase),
                have=install.bytes_have,
                total=install.bytes_total,
                left_s=install.left_s,
                most_s=install.most_s,
            )


def _behind(box: str, standing: Standing) -> Line:
    """It may have said no to the order, and then says why as far as nothing else was to be told since."""
    install, code = standing.model.install, standing.refused
    line = Line(
        box, "open", "has not taken the order yet", code or (standing.code if standing.state == "behind" else "")
    )
    if not code:
        return line if install.phase else msgspec.structs.replace(line, hint=_UNREAD)
    message, hint = (install.message, install.hint) if install.code == code else ("", "")
    if code == "signature":
        hint = _OTHER_KEYS
    elif not hint and code in CODES:
        hint = CODES[code].hint
    return msgspec.structs.replace(line, message=message, hint=hint, stalled="refuses the order")
