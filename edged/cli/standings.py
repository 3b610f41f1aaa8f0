"""The fleet as people and scripts read it: tables, summaries, one box in full, JSON."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from edged.cli.words import columns, duration, left, plain, size
from edged.delivery.documents import Want
from edged.fleet.standing import Standing
from edged.fleet.view import Box, Fleet, Published, Version

HEAD: Final = ("BOX", "ONLINE", "MODEL", "RUNS", "WANT", "STATE", "WHY")
_SHORT: Final = 10  # digits of a hash, for people
_LONGEST: Final = 100  # characters of a reason in a table
_RED, _GREEN, _YELLOW, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
_STATE: Final = HEAD.index("STATE")


def table(standings: Sequence[Standing], *, colour: bool = False) -> Iterator[str]:
    """One line a box and model, below a head. Scripts may cut it at the columns of the head, or better take --json."""
    lines = columns([HEAD, *map(_row, standings)])
    yield lines[0]
    for standing, line in zip(standings, lines[1:], strict=True):
        yield _coloured(line, standing, lines[0].index(HEAD[_STATE])) if colour else line


def word(standing: Standing) -> str:
    """The state in one word, as the table has it: what a box that is away has said last is not its state."""
    if standing.lost:
        return "lost"
    if not standing.box.online:
        return "offline"
    if standing.state == "busy":
        return plain(standing.phase)
    if standing.state == "failed":
        return plain(standing.model.install.verdict) or "failed"
    return standing.state


def summary(fleet: Fleet, standings: Sequence[Standing], now_ms: int) -> Iterator[str]:
    """A line for each order that counts for somebody, and one for the boxes that none is for."""
    groups: dict[tuple[str, Published | None], list[Standing]] = {}
    for standing in standings:
        groups.setdefault((standing.model.name, standing.order), []).append(standing)
    for (model, order), members in groups.items():
        counts = Counter(map(word, members))
        told = ", ".join(
            f"{number} {state}" for state, number in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        )
        yield f"{model}{_order(order, now_ms)}: {told}"
    unsigned = ((one.model, one.to) for one in (*fleet.wants, *fleet.undos) if one.signed is False)
    for model, to in dict.fromkeys(unsigned):
        yield f"{model}: the order for {to} is not signed as your trust document asks: no box follows it"


def notes(fleet: Fleet) -> Iterator[str]:
    """What makes the picture less than whole."""
    for why in fleet.incomplete:
        yield f"the picture may be incomplete: {why}"
    if fleet.strange:
        yield f"{fleet.strange} messages on the fleet's topics could not be understood and were passed over"


def box_in_full(box: Box, standings: Iterable[Standing], now_ms: int) -> Iterator[str]:
    """Everything that one box says."""
    presence = {"online": "online", "offline": "offline", "unknown": "the broker has no word on whether it is online"}
    host = f" on {plain(box.host)}" if box.host else ""
    yield f"{box.name}  {presence[box.presence]}, edged {plain(box.edged) or '?'}{host}"
    if box.groups:
        yield f"groups {', '.join(box.groups)}"
    if box.flags:
        yield f"flags {', '.join(map(plain, box.flags))}"
    if box.at_ms:
        yield f"said so {_ago(box.at_ms, now_ms)}"
    if not box.online:
        yield "what follows is what it said last"
    for standing in standings:
        yield ""
        yield from _model_in_full(standing, now_ms)


def as_json(fleet: Fleet, standings: Sequence[Standing]) -> dict[str, Any]:
    """For scripts. A member may be added, none changes its meaning; docs/fleet.md has the words of `state`."""
    return {
        "boxes": [_box_json(box, [one for one in standings if one.box == box]) for box in fleet.boxes],
        "orders": [_published_json(one) for one in fleet.wants],
        "undos": [_published_json(one) for one in fleet.undos],
        "incomplete": list(fleet.incomplete),
        "strange": fleet.strange,
    }


# --- lines ----------------------------------------------------------------------------------------------


def _row(standing: Standing) -> tuple[str, ...]:
    order = standing.order.order if standing.order else None
    asked = standing.state not in ("none", "outside")
    wanted = "-" if order is None or not asked else str(order.version) if isinstance(order, Want) else "undo"
    why = plain("; ".join(filter(None, _why(standing))))
    return (
        standing.box.name,
        "yes" if standing.box.online else "no",
        standing.model.name,
        plain(standing.model.running) or "-",
        wanted,
        word(standing),
        why if len(why) <= _LONGEST else why[: _LONGEST - 3] + "...",
    )


def _why(standing: Standing) -> Iterator[str]:
    install = standing.model.install
    if not standing.box.online and standing.state != "none":
        yield f"said last: {standing.phase if standing.state == 'busy' else standing.state}"
    if standing.state in ("failed", "waiting") or (standing.state == "behind" and standing.code):
        yield ": ".join(filter(None, (standing.code, standing.why if standing.code == install.code else "")))
    if standing.state == "busy" and install.phase == "downloading" and install.bytes_total:
        yield f"{size(install.bytes_have)} of {size(install.bytes_total)}"
    if standing.state == "busy" and install.left_s is not None:
        yield left(install.left_s, install.most_s)
    if standing.state == "local" and install.want is not None:
        version = install.want.version or "?"
        yield f"a person on the box has installed version {version}; push with --retry takes it back"
    if standing.state == "behind" and not standing.code:
        followed = install.want
        order = standing.order.order if standing.order else None
        how = "follows a newer" if followed and order and followed.place > order.place else "still follows the"
        yield f"{how} want for version {followed.version or '?'}" if followed else "has taken no want yet"
    if standing.model.state == "failed":
        yield "the model does not answer"
    yield from install.flags


def _order(order: Published | None, now_ms: int) -> str:
    if order is None:
        return ", no order"
    one = order.order
    issued = f"signed {_ago(one.issued, now_ms)}"
    if not isinstance(one, Want):
        return f", undo of {one.release[:_SHORT]} for {order.to}, {issued}"
    percent = f", {one.rollout.percent:g} %" if one.rollout.percent < 100 else ""
    pause = ", paused" if one.rollout.pause else ""
    past = ", past its time: whoever has not begun does not begin" if one.expires <= now_ms else ""
    return f", version {one.version} ({one.release[:_SHORT]}) for {order.to}{percent}{pause}, {issued}{past}"


def _model_in_full(standing: Standing, now_ms: int) -> Iterator[str]:
    install, model = standing.model.install, standing.model
    yield f"{model.name}  {word(standing)}{_order(standing.order, now_ms)}"
    rows = [
        ("serves", f"{plain(model.version) or '-'} ({plain(model.state)})" if model.state else ""),
        ("active", _version(install.active)),
        ("previous", _version(install.previous)),
        ("candidate", _version(install.candidate)),
        ("phase", plain(install.phase)),
        ("verdict", plain(install.verdict)),
        ("code", plain(install.code)),
        ("message", plain(install.message)),
        ("hint", plain(install.hint)),
        ("download", _download(standing)),
        ("probation", left(install.left_s, install.most_s) if install.left_s is not None else ""),
        ("held", "by an operator: `edged unpin` on the box, or push with --retry" if install.held else ""),
        ("flags", ", ".join(map(plain, install.flags))),
        ("replays", str(install.replays or "")),
        ("said", _ago(install.at_ms, now_ms) if install.at_ms else ""),
    ]
    if install.want is not None:
        signers = f", signed by {', '.join(map(plain, install.want.signers))}" if install.want.signers else ""
        followed = f"version {plain(install.want.version) or '?'} ({plain(install.want.release)[:_SHORT]})"
        rows.insert(1, ("follows", f"{followed}, sequence {install.want.epoch}/{install.want.seq}{signers}"))
    yield from (f"  {line}" for line in columns([row for row in rows if row[1]] or [("phase", "-")]))


def _download(standing: Standing) -> str:
    install = standing.model.install
    if not install.bytes_total:
        return ""
    bad = f", {install.bad_chunks} damaged chunks" if install.bad_chunks else ""
    return f"{size(install.bytes_have)} of {size(install.bytes_total)}{bad}"


def _version(version: Version | None) -> str:
    if version is None:
        return ""
    digest = version.release or version.sha256
    return f"{plain(version.version) or '?'}" + (f" ({plain(digest)[:_SHORT]})" if digest else "")


def _ago(then_ms: int, now_ms: int) -> str:
    if then_ms > now_ms + 60_000:
        return f"at {time.strftime('%Y-%m-%d %H:%M', time.localtime(then_ms / 1000))}, ahead of this clock"
    return f"{duration(max(0, now_ms - then_ms) / 1000)} ago"


def _coloured(line: str, standing: Standing, start: int) -> str:
    colour = _RED if standing.bad else _GREEN if standing.done else _YELLOW if standing.state == "busy" else ""
    name = word(standing)
    return f"{line[:start]}{colour}{name}{_PLAIN}{line[start + len(name) :]}" if colour else line


# --- JSON -----------------------------------------------------------------------------------------------


def _box_json(box: Box, standings: Sequence[Standing]) -> dict[str, Any]:
    return {
        "name": box.name,
        "online": box.online,
        "presence": box.presence,
        "groups": box.groups,
        "edged": box.edged,
        "host": box.host,
        "boot": box.boot,
        "ts": box.at_ms,
        "flags": box.flags,
        "models": [
            {
                "name": one.model.name,
                "running": one.model.running,
                "state": one.state,
                "done": one.done,
                "failed": one.failed,
                "lost": one.lost,
                "bad": one.bad,
                "code": one.code,
                "serving": one.model.state,
                "order": _published_json(one.order) if one.order else None,
                "install": msgspec.to_builtins(one.model.install),
            }
            for one in standings
        ],
    }


def _published_json(one: Published) -> dict[str, Any]:
    kind = "want" if isinstance(one.order, Want) else "undo"
    document = msgspec.to_builtins(one.order)
    return {"kind": kind, "topic_to": one.to, "signed": one.signed, **document}
