"""Every write of every course of a push: what follows when the daemon dies there, or the disk is full (RULES 26).

Whatever happens, what is served next is the old release or the new one, whole; the model comes to rest;
and a further restart serves the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from edged.delivery import rollout
from edged.delivery.record import Phase, Record, Verdict
from edged.delivery.rollout import TABLE, Event
from edged.delivery.store import Store, decode
from edged.errors import EdgedError, fault
from edged.serving.generation import Generation
from tests.integration.delivery.bench import NEW, OLD, Bench, Killed, Saboteur, during
from tests.integration.delivery.fleet import Fleet, Member, living
from tests.integration.delivery.signed_courses import SIGNED, ordered


async def kept(at: Bench) -> None:
    at.push(NEW)
    await at.started()
    await at.rest()


async def failed(at: Bench) -> None:
    at.push(b"nan new")
    await at.until("failed", "rejected")


async def faulted(at: Bench) -> None:
    at.push(NEW)
    await at.started()
    at.did(runs=100, faults=50)
    await at.rest()


async def crashed(at: Bench) -> None:
    at.push(NEW)
    if await at.started() and at.route.live is not None:
        live, at.route.live = at.route.live, None
        assert at.route.on_faulty(cast("Generation", live), fault("model_failed", "again and again"))
    await at.rest()


async def undone(at: Bench) -> None:
    await kept(at)
    with contextlib.suppress(EdgedError):
        await at.installer.rollback("m")


async def undone_early(at: Bench) -> None:
    at.push(NEW)
    await at.started()
    with contextlib.suppress(EdgedError):
        await at.installer.rollback("m")
    await at.rest()


async def superseded(at: Bench) -> None:
    at.push(b"hang new")
    await at.until("trial", "rejected")
    at.push(NEW)
    await at.started()
    await at.rest()


async def replaced_in_the_inbox(at: Bench) -> None:
    at.push(b"nan new")
    at.push(NEW)
    await at.started()
    await at.rest()


async def queued(at: Bench) -> None:
    at.push(b"good between")
    await at.started()
    at.push(NEW)
    await at.fate(NEW)


COURSES: list[Callable[[Bench], Awaitable[None]]] = [
    kept,
    failed,
    faulted,
    crashed,
    undone,
    undone_early,
    superseded,
    replaced_in_the_inbox,
    queued,
]
HOW = ("killed before", "killed after", "ENOSPC", "EROFS", "EIO")
FINE = {OLD, NEW, b"good between"}


pytestmark = pytest.mark.usefixtures("soon")


def forget(root: Path) -> None:
    for state in root.glob("state.json*"):
        state.unlink()


async def settle(at: Bench) -> None:
    await at.rest()


def ended(course: Callable[[Member], Awaitable[None]]) -> Callable[[Member], Awaitable[None]]:
    async def run(at: Member) -> None:
        await course(at)
        await at.settled()

    return run


def check_at_rest(root: Path, bench: Bench) -> None:
    assert check(root, bench).phase is Phase.IDLE
    again = asyncio.run(during(root, Store(root), settle))
    assert again.serving == bench.serving


def check(root: Path, bench: Bench) -> Record:
    """What is true of a box that has come to rest; its record."""
    assert bench.serving in FINE
    state = decode((root / "state.json").read_bytes()) if (root / "state.json").exists() else None
    record = state.models["m"] if state else Record()
    assert bench.route.live is not None
    assert bench.route.previous is None  # nothing stays in memory for nothing
    assert record.active is None or record.active.key not in record.blacklist
    on_disk = {folder.name for folder in (root / "releases").iterdir()}
    assert {one.key for one in (record.active, record.previous) if one is not None and not one.factory} <= on_disk
    assert not list(root.rglob("*.tmp"))
    return record


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("course", COURSES, ids=lambda course: course.__name__)
def test_whatever_write_goes_wrong(root: Path, course: Callable[[Bench], Awaitable[None]], how: str) -> None:
    for at in itertools.count(1):
        forget(root)
        store = Saboteur(root, at, how)
        try:
            bench = asyncio.run(during(root, store, course))
        except Killed:
            bench = asyncio.run(during(root, Store(root), settle))
        check_at_rest(root, bench)
        if store.writes < at:
            break
    assert at > 3  # there were writes to go wrong


@pytest.mark.parametrize("how", HOW[:3])  # the others take the same turns as ENOSPC
@pytest.mark.parametrize("course", SIGNED, ids=lambda course: course.__name__)
def test_whatever_write_of_a_signed_order_goes_wrong(
    root: Path, course: Callable[[Member], Awaitable[None]], how: str
) -> None:
    for at in itertools.count(1):
        forget(root)
        fleet, store = Fleet(root), Saboteur(root, at, how)
        try:
            bench = asyncio.run(living(fleet, root, ended(course), store=store))
        except Killed:
            bench = asyncio.run(living(fleet, root, Member.settled))
        check(root, bench)
        again = asyncio.run(living(fleet, root, Member.settled))
        assert again.serving == bench.serving
        if store.writes < at:
            break
    assert at > 3  # there were writes to go wrong


def test_the_courses_above_use_every_line_of_the_table(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[tuple[Phase, Event]] = set()
    line = rollout._line

    def noted(phase: Phase, event: Event) -> tuple[Phase, rollout.Action]:
        used.add((phase, event))
        return line(phase, event)

    monkeypatch.setattr(rollout, "_line", noted)
    for _ in range(3):  # on a busy machine a trial may have ended before its push comes
        every_course(root)
        if used == set(TABLE):
            break
    assert used == set(TABLE)


def every_course(root: Path) -> None:
    for course in COURSES:
        forget(root)
        asyncio.run(during(root, Store(root), course))
    for signed in SIGNED:
        forget(root)
        fleet = Fleet(root)
        asyncio.run(living(fleet, root, ended(signed)))
        asyncio.run(living(fleet, root, Member.settled))
    for how, at in itertools.product(("ENOSPC", "killed after"), range(1, 9)):
        forget(root)
        fleet = Fleet(root)
        with contextlib.suppress(Killed):
            asyncio.run(living(fleet, root, ended(ordered), store=Saboteur(root, at, how)))
        with contextlib.suppress(Killed):
            asyncio.run(living(fleet, root, Member.settled))
    for payload, phase in ((b"hang new", "trial"), (NEW, "probation")):
        forget(root)
        worn_out(root, payload, phase)


def worn_out(root: Path, payload: bytes, phase: str) -> tuple[int, Bench]:
    """Pushes, and kills the daemon whenever the model is in `phase`: how many lives that took, and the last one."""

    async def die(at: Bench) -> None:
        at.push(payload)
        await at.until(phase)
        raise Killed

    async def die_again(at: Bench) -> None:
        await asyncio.sleep(0)
        if (await at.until("idle", phase))["phase"] == phase:
            raise Killed

    with pytest.raises(Killed):
        asyncio.run(during(root, Store(root), die))
    for lives in itertools.count(1):
        with contextlib.suppress(Killed):
            return lives, asyncio.run(during(root, Store(root), die_again))
    raise AssertionError


def last_verdict(root: Path) -> Verdict:
    last = decode((root / "state.json").read_bytes()).models["m"].last
    assert last is not None
    return last


def test_a_trial_that_ends_the_daemon_is_begun_twice(root: Path) -> None:
    lives, bench = worn_out(root, b"hang new", "trial")
    assert lives == 2
    assert bench.serving == OLD
    last = last_verdict(root)
    assert (last.verdict, last.fault and last.fault.code) == ("failed", "trial_crash_loop")


def test_a_probation_that_ends_the_daemon_is_loaded_three_times(root: Path) -> None:
    lives, bench = worn_out(root, NEW, "probation")
    assert lives == 3
    assert bench.serving == OLD
    assert bench.route.started == ["1"]  # the suspect was not loaded to find that out
    last = last_verdict(root)
    assert (last.verdict, last.fault and last.fault.code) == ("rolled_back", "probation_crash")


def test_clean_stops_cost_nothing(root: Path) -> None:
    async def begin(at: Bench) -> None:
        at.push(NEW)
        await at.until("probation")

    async def look(at: Bench) -> None:
        assert at.installer.phase("m") is Phase.PROBATION

    asyncio.run(during(root, Store(root), begin))
    for _ in range(5):
        assert asyncio.run(during(root, Store(root), look)).serving == NEW
    assert asyncio.run(during(root, Store(root), settle)).serving == NEW
    assert last_verdict(root).verdict == "active"
