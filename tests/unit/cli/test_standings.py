"""How the fleet reads: a table that tells the truth about boxes that are away, summaries, one box, JSON."""

from __future__ import annotations

import json

from edged.cli import standings as lines
from edged.delivery.documents import Rollout, Undo, Want
from edged.fleet import standing
from edged.fleet.standing import Standing
from edged.fleet.view import Box, Fleet, Install, Model, Presence, Published, Version, Wanted

NOW = 1_700_000_000_000
V1, V2 = Version("1", "1" * 64), Version("2", "2" * 64)
WANT = Want("digits", "all", NOW - 720_000, NOW - 720_000, NOW + 10**9, V2.release, 2, rollout=Rollout(50, "s"))
WHOLE = Want("digits", "all", 9, NOW - 720_000, NOW + 1, V2.release, 2)
ORDER = Published("digits", "all", WANT, b"", signed=True)


def stands(name: str, install: Install, presence: Presence = "online", order: Published | None = ORDER) -> Standing:
    model = Model("digits", "serving", "1", install)
    return standing.of(Box(name, presence, ("line-2",), "1.0", "pi", models=(model,)), model, order)


FOLLOWED = Wanted(V2.release, "2", 0, WANT.seq, ("0123456789abcdef",))
LIVE = Install("idle", "active", active=V2, previous=V1, want=FOLLOWED)
BUSY = Install("downloading", active=V1, candidate=V2, want=FOLLOWED, bytes_have=2**20, bytes_total=4 * 2**20)
TRIAL = Install("trial", active=V1, candidate=V2, want=FOLLOWED)
FAILED = Install("idle", "failed", "golden", "output 0 differs by 0.7", active=V1, about=V2, want=FOLLOWED)
WAITS = Install("waiting", "", "no_space", "8 MiB are free", active=V1, candidate=V2, want=FOLLOWED)


def test_the_table_says_what_each_box_runs_should_and_why_not() -> None:
    rows = [
        stands("a", LIVE),
        stands("b", LIVE, "offline"),
        stands("c", TRIAL, "offline"),
        stands("d", BUSY),
        stands("e", FAILED),
        stands("f", WAITS),
        stands("g", Install("idle", active=V1, held=True)),
        stands("h", Install("idle", active=V1), order=None),
    ]
    assert list(lines.table(rows)) == [
        "BOX  ONLINE  MODEL   RUNS  WANT  STATE        WHY",
        "a    yes     digits  2     2     live",
        "b    no      digits  2     2     offline      said last: live",
        "c    no      digits  1     2     lost         said last: trial",
        "d    yes     digits  1     2     downloading  1.0 MiB of 4.0 MiB",
        "e    yes     digits  1     2     failed       golden: output 0 differs by 0.7",
        "f    yes     digits  1     2     waiting      no_space: 8 MiB are free",
        "g    yes     digits  1     2     held",
        "h    yes     digits  1     -     none",
    ]


def test_colour_changes_nothing_but_the_state() -> None:
    rows = [stands("a", LIVE), stands("b", FAILED), stands("c", BUSY)]
    coloured = list(lines.table(rows, colour=True))
    assert coloured[1] == "a    yes     digits  2     2     \x1b[32mlive\x1b[0m"
    assert "\x1b[31mfailed\x1b[0m" in coloured[2]
    plain = [line.replace("\x1b[32m", "").replace("\x1b[31m", "").replace("\x1b[33m", "") for line in coloured]
    assert [line.replace("\x1b[0m", "") for line in plain] == list(lines.table(rows))


def test_what_a_box_says_cannot_move_a_terminal() -> None:
    evil = Install("idle", "failed", "golden\x1b[2J", "a\nb\tc" + "x" * 500, active=Version("\x1b[1m"), about=V2)
    (_, row) = lines.table([stands("a", evil)])
    assert "\x1b" not in row
    assert "\n" not in row
    assert len(row) < 200
    fleet = Fleet((stands("a", evil).box,), (ORDER,))
    for line in (*lines.summary(fleet, [stands("a", evil)], NOW), *lines.box_in_full(fleet.boxes[0], [], NOW)):
        assert "\x1b" not in line


def test_the_summary_counts_boxes_by_order() -> None:
    rows = [stands("a", LIVE), stands("b", LIVE), stands("c", FAILED), stands("d", LIVE, "offline")]
    assert list(lines.summary(Fleet(wants=(ORDER,)), rows, NOW)) == [
        "digits, version 2 (2222222222) for all, 50 %, signed 12 min ago: 2 live, 1 failed, 1 offline"
    ]
    undo = Published("digits", "all", Undo("digits", "all", NOW, NOW, NOW, V2.release), b"")
    assert list(lines.summary(Fleet(), [stands("a", Install("idle", active=V1), order=undo)], NOW)) == [
        "digits, undo of 2222222222 for all, signed 0 s ago: 1 undone"
    ]
    assert list(lines.summary(Fleet(), [stands("a", LIVE, order=None)], NOW)) == ["digits, no order: 1 none"]


def test_an_order_that_is_paused_or_past_its_time_or_nobody_s_says_so() -> None:
    ended = Want("digits", "all", 1, NOW - 1000, NOW, V2.release, 2, rollout=Rollout(pause=True))
    order = Published("digits", "all", ended, b"")
    (line,) = lines.summary(Fleet(), [stands("a", LIVE, order=order)], NOW)
    assert ", paused, signed 1 s ago, past its time: whoever has not begun does not begin: 1 live" in line
    forged = Published("digits", "device/a", WANT, b"", signed=False)
    beside = Published("digits", "device/a", WANT, b"", signed=False)
    assert list(lines.summary(Fleet(wants=(forged,), undos=(beside,)), [], NOW)) == [
        "digits: the order for device/a is not signed as your trust document asks: no box follows it"
    ]


def test_a_box_that_has_not_taken_the_order_says_which_it_follows() -> None:
    old = Install("idle", active=V1, want=Wanted(V1.release, "1", 0, 5))
    whole = Published("digits", "all", Want("digits", "all", 9, NOW, NOW + 1, V2.release, 2), b"")
    (_, row) = lines.table([stands("a", old, order=whole)])
    assert row.endswith("behind  still follows the want for version 1")
    (_, row) = lines.table([stands("a", Install("idle", active=V1), order=whole)])
    assert row.endswith("behind  has taken no want yet")
    (_, row) = lines.table([stands("a", Install("idle", active=V1, refused={"all": "signature"}), order=whole)])
    assert row.endswith("behind  signature")


def test_what_waits_without_a_code_has_no_empty_reason() -> None:
    """Behind another release's probation, say."""
    followed = Wanted(V2.release, "2", *WHOLE.place)
    behind = Install("probation", active=V1, about=V1, want=followed, flags=("queued",))
    (_, row) = lines.table([stands("a", behind, order=Published("digits", "all", WHOLE, b""))])
    assert row.endswith("waiting  queued")


def test_a_box_that_follows_a_person_says_so_and_what_takes_it_back() -> None:
    hand = Install("idle", "active", active=V1, about=V1, want=Wanted(V1.release, "1", seen=WHOLE.place))
    (_, row) = lines.table([stands("a", hand, order=Published("digits", "all", WHOLE, b""))])
    assert row.endswith("local  a person on the box has installed version 1; push with --retry takes it back")


def test_one_box_in_full() -> None:
    found = stands("a", FAILED, "offline")
    text = "\n".join(lines.box_in_full(found.box, [found], NOW))
    for part in ("offline, edged 1.0 on pi", "groups line-2", "what it said last", "golden", "0123456789abcdef"):
        assert part in text
    assert lines.box_in_full(Box("b"), [], NOW)


def test_json_is_for_scripts() -> None:
    rows = [stands("a", LIVE), stands("b", TRIAL, "offline")]
    fleet = Fleet(tuple(one.box for one in rows), (ORDER,), incomplete=("why",), strange=2)
    document = json.loads(json.dumps(lines.as_json(fleet, rows)))
    (a, b) = document["boxes"]
    assert (a["online"], a["models"][0]["state"], a["models"][0]["done"]) == (True, "live", True)
    assert (b["online"], b["models"][0]["state"], b["models"][0]["lost"]) == (False, "busy", True)
    assert a["models"][0]["install"]["active"]["version"] == "2"
    (order,) = document["orders"]
    assert (order["kind"], order["to"], order["rollout"]["percent"]) == ("want", "all", 50)
    assert (document["incomplete"], document["strange"]) == (["why"], 2)
