"""What a person may do to one model on the box: go back, hold it at a version, let it go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from edged.delivery.case import Case
from edged.delivery.ledger import Change, unwritable
from edged.delivery.pursuit import Pursuit
from edged.delivery.record import Held, Phase
from edged.delivery.retreat import Retreat, undone_by
from edged.errors import EdgedError, Fault, fault

DRAIN_S: Final = 30.0  # for the inputs that a model has taken before it is unloaded


class Hand:
    """`by` is who did it, for the audit. `give_up(why)`: of what is under way."""

    def __init__(self, case: Case, retreat: Retreat, pursuit: Pursuit, give_up: Callable[[Fault], None]) -> None:
        self._case: Final = case
        self._ledger: Final = case.ledger
        self._retreat: Final = retreat
        self._pursuit: Final = pursuit
        self._give_up: Final = give_up

    async def rollback(self, by: str) -> dict[str, object]:
        """The operator's rollback, which holds; returns the status after it. Raises EdgedError no_previous or busy."""
        return await self._go_back(undone_by(by), Held(by))

    async def pin(self, version: int, by: str) -> dict[str, object]:
        """Holds the model at a version that is here: the one that answers, or the one before. Raises EdgedError."""
        record, held = self._ledger.record, Held(by, pinned=True)
        active = self._case.shelf.active(record)
        here = {one.version for one in (active, await self._case.shelf.way_back(record)) if one is not None}
        if active is not None and active.version == version:
            await self._commit(lambda now: msgspec.structs.replace(now, held=held))
            if self._case.shelf.active(self._ledger.record) == active:  # else a trial has just ended
                self._give_up(fault("pinned", f"{by} holds the model at version {version}"))
                self._ledger.decided("pinned", f"held at version {version}", None, version, active.sha256, by)
                self._case.wake.set()
                self._ledger.say(self._ledger.course)
                return self._ledger.status()
        elif version not in here:
            there_are = ", ".join(map(str, sorted(here))) or "none"
            raise EdgedError("bad_version", f"version {version} is not on this box", f"There are: {there_are}.")
        await self._go_back(fault("undone", f"{by} holds the model there"), held)
        self._ledger.decided("pinned", f"held at version {version}", None, version, "", by)
        return self._ledger.status()

    async def unpin(self, by: str) -> dict[str, object]:
        """Lets the fleet's wants count again. Raises EdgedError not_found when nobody holds it."""
        if self._ledger.record.held is None:
            raise EdgedError("not_found", f"nobody holds {self._case.shelf.model}", "")
        await self._commit(lambda now: msgspec.structs.replace(now, held=None))
        self._ledger.decided("unpinned", "wants count again", None, None, None, by)
        self._pursuit.look_again()
        self._ledger.say(self._ledger.course)
        return self._ledger.status()

    async def release_manual(self, by: str) -> dict[str, object]:
        """Lets an order go on that waits for a person or for its hour. Raises EdgedError not_found."""
        order = self._ledger.record.wanted
        if order is None:
            raise EdgedError("not_found", f"no release of {self._case.shelf.model} waits to be installed", "")
        await self._commit(
            lambda now: msgspec.structs.replace(
                now, order=msgspec.structs.replace(now.order, released=True) if now.order else None
            )
        )
        self._ledger.decided("offered", f"version {order.version} may be installed now", by=by)
        self._pursuit.look_again()
        return self._ledger.status()

    async def load(self, by: str) -> dict[str, object]:
        """Serves again what was unloaded, or has failed; nothing when it answers already.

        Raises EdgedError: `starting` where there is nothing to load yet, else why it cannot be loaded.
        """
        route, active = self._case.route, self._case.shelf.active(self._ledger.record)
        if active is None:
            problem = self._ledger.fault or fault("starting", f"{self._case.shelf.model} waits for its first push")
            raise EdgedError(problem.code, problem.message, problem.hint)
        if route.live is None or route.unloaded:
            self._ledger.decided(
                "loaded", f"version {active.version} is loaded", None, active.version, active.sha256, by
            )
            await route.serve(self._case.shelf.release(active))
            if route.fault is not None:
                raise EdgedError(route.fault.code, route.fault.message, route.fault.hint)
        return self._ledger.status()

    async def unload(self, by: str) -> dict[str, object]:
        """Ends the model's processes once they have answered; a load, a switch or a restart brings it back.

        Raises EdgedError busy while a version is tried or watched: both are needed for that.
        """
        phase, active = self._ledger.course.phase, self._case.shelf.active(self._ledger.record)
        if phase in (Phase.TRIAL, Phase.PROBATION):
            raise EdgedError("busy", f"a version of {self._case.shelf.model} is in its {phase.value}")
        if active is not None and not self._case.route.unloaded:
            self._ledger.decided(
                "unloaded", f"version {active.version} is unloaded", None, active.version, active.sha256, by
            )
            await self._case.route.unload(DRAIN_S)
        return self._ledger.status()

    async def _commit(self, change: Change) -> None:
        """Raises EdgedError no_space or bad_store where it cannot be kept: then nothing has changed."""
        try:
            await self._ledger.commit(change)
        except OSError as error:
            problem = unwritable(error)
            raise EdgedError(problem.code, problem.message, problem.hint) from error

    async def _go_back(self, why: Fault, held: Held) -> dict[str, object]:
        phase = self._ledger.course.phase
        if phase is Phase.TRIAL or (phase is Phase.OFFERED and not self._pursuit.under_way):
            raise EdgedError("busy", f"a push of {self._case.shelf.model} is under way")
        if (
            await self._case.shelf.way_back(self._ledger.record) is None
        ):  # else what is fetched would be given up for it
            raise EdgedError("no_previous", f"{self._case.shelf.model} has no version to go back to")
        done = self._retreat.wanted(why, held.by, held)
        self._give_up(fault("pinned", f"{held.by} went back to the version before"))
        return await asyncio.shield(done)
