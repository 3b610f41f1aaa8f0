"""Courses of signed orders for test_every_interruption.py: each comes to rest, whatever write goes wrong on its way."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from edged.errors import EdgedError
from tests.integration.delivery.bench import NEW, OLD
from tests.integration.delivery.fleet import Member
from tests.signing import sha256_of

BETWEEN: Final = b"good between"


async def ordered(at: Member) -> None:
    release = at.fleet.push(NEW)
    await at.told(release, "active")


async def ordered_and_failed(at: Member) -> None:
    release = at.fleet.push(b"nan new")
    await at.told(release, "failed", "rejected")


async def ordered_and_faulted(at: Member) -> None:
    at.fleet.push(NEW)
    await at.started()
    at.did(runs=100, faults=50)
    await at.rest()


async def ordered_while_looked_up(at: Member) -> None:
    missing, release = at.fleet.release(BETWEEN), at.fleet.release(NEW, 3)
    at.fleet.upload(release, NEW)
    at.fleet.want(missing)
    await at.told(missing, "offered")
    at.fleet.want(release)
    await at.told(release, "active")


async def ordered_while_fetched(at: Member) -> None:
    stuck, release = at.fleet.release(BETWEEN), at.fleet.release(NEW, 3)
    at.fleet.publish_document(stuck)
    at.fleet.upload(release, NEW)
    at.fleet.want(stuck)
    await at.told(stuck, "downloading")
    at.fleet.want(release)
    await at.told(release, "active")


async def ordered_while_on_the_disk(at: Member) -> None:
    first, release = at.fleet.release(BETWEEN), at.fleet.release(NEW, 3)
    at.fleet.upload(first, BETWEEN)
    at.fleet.upload(release, NEW)
    at.fleet.want(first, action="download_only")
    await at.told(first, "verified")
    at.fleet.want(release)
    await at.told(release, "active")


async def ordered_while_tried(at: Member) -> None:
    first, release = at.fleet.release(b"hang first"), at.fleet.release(NEW, 3)
    at.fleet.upload(first, b"hang first")
    at.fleet.upload(release, NEW)
    at.fleet.want(first)
    await at.told(first, "trial")
    at.fleet.want(release)
    await at.told(release, "active")


async def ordered_while_watched(at: Member) -> None:
    first, release = at.fleet.release(BETWEEN), at.fleet.release(NEW, 3)
    at.fleet.upload(first, BETWEEN)
    at.fleet.upload(release, NEW)
    at.fleet.want(first)
    await at.told(first, "probation")
    at.fleet.want(release)
    await at.told(release, "active")


async def pushed_while_fetched(at: Member) -> None:
    stuck = at.fleet.release(BETWEEN)
    at.fleet.publish_document(stuck)
    at.fleet.want(stuck)
    await at.told(stuck, "downloading")
    at.push(NEW)
    await at.fate(NEW)


async def pushed_while_on_the_disk(at: Member) -> None:
    first = at.fleet.push(BETWEEN, action="download_only")
    await at.told(first, "verified")
    at.push(NEW)
    await at.fate(NEW)


async def undone_by_the_fleet(at: Member) -> None:
    release = at.fleet.release(NEW)
    at.fleet.upload(release, NEW)
    want = at.fleet.want(release)
    await at.told(release, "active")
    at.fleet.undo(want)
    with contextlib.suppress(TimeoutError):
        await at.sees(code="undone")


async def banned_at_rest(at: Member) -> None:
    await ordered(at)
    release = at.fleet.release(NEW)
    at.fleet.rotate(banned={sha256_of(release): "it sees ghosts"})
    await at.told(release, "banned")


async def banned_while_fetched(at: Member) -> None:
    stuck = at.fleet.release(NEW)
    at.fleet.publish_document(stuck)
    at.fleet.want(stuck)
    await at.told(stuck, "downloading")
    at.fleet.rotate(banned={sha256_of(stuck): "it sees ghosts"})
    await at.told(stuck, "banned")


async def banned_on_the_disk(at: Member) -> None:
    release = at.fleet.push(NEW, action="download_only")
    await at.told(release, "verified")
    at.fleet.rotate(banned={sha256_of(release): "it sees ghosts"})
    await at.told(release, "banned")


async def banned_while_another_is_fetched(at: Member) -> None:
    await ordered(at)
    stuck = at.fleet.release(BETWEEN, 3)
    at.fleet.publish_document(stuck)
    at.fleet.want(stuck)
    await at.told(stuck, "downloading")
    at.fleet.rotate(banned={sha256_of(at.fleet.release(NEW)): "it sees ghosts"})
    await at.answered_by(OLD)


async def banned_while_another_is_on_the_disk(at: Member) -> None:
    await ordered(at)
    other = at.fleet.release(BETWEEN, 3)
    at.fleet.upload(other, BETWEEN)
    at.fleet.want(other, action="download_only")
    await at.told(other, "verified")
    at.fleet.rotate(banned={sha256_of(at.fleet.release(NEW)): "it sees ghosts"})
    await at.answered_by(OLD)


async def held_and_let_go(at: Member) -> None:
    await ordered(at)
    with contextlib.suppress(EdgedError):
        await at.installer.rollback("m", "somebody")
    with contextlib.suppress(EdgedError, OSError):
        await at.installer.unpin("m", "somebody")
    await at.rest()


SIGNED: Final[list[Callable[[Member], Awaitable[None]]]] = [
    ordered,
    ordered_and_failed,
    ordered_and_faulted,
    ordered_while_looked_up,
    ordered_while_fetched,
    ordered_while_on_the_disk,
    ordered_while_tried,
    ordered_while_watched,
    pushed_while_fetched,
    pushed_while_on_the_disk,
    undone_by_the_fleet,
    banned_at_rest,
    banned_while_fetched,
    banned_on_the_disk,
    banned_while_another_is_fetched,
    banned_while_another_is_on_the_disk,
    held_and_let_go,
]
