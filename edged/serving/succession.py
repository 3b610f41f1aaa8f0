"""A candidate that answers now gets the normal priority, or a fresh process takes over from it (RULES 6)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from edged.errors import EdgedError, Fault
from edged.serving.generation import Generation
from edged.serving.priority import restore

log = logging.getLogger("edged.serving")


class Succession:
    """`start` gives a fresh process of what a generation runs, `take_over` makes it live while that one `holds`.

    `cramped`: why there is no room for one beside it, None when there is.
    """

    def __init__(
        self,
        *,
        start: Callable[[Generation], Awaitable[Generation]],
        take_over: Callable[[Generation], Awaitable[None]],
        holds: Callable[[Generation], bool],
        cramped: Callable[[Generation], Fault | None],
    ) -> None:
        self._start: Final = start
        self._take_over: Final = take_over
        self._holds: Final = holds
        self._cramped: Final = cramped
        self._task: asyncio.Task[None] | None = None

    def ready(self, to: Generation) -> None:
        """Sees to the priority of what is about to answer: else its first inputs wait as it does for everybody."""
        to.low = to.low and not restore(to.pid)

    def of(self, live: Generation | None) -> None:
        """Sees to the priority of what answers."""
        if live is None or not live.low or (self._task is not None and not self._task.done()):
            return
        live.low = not restore(live.pid)
        if live.low:
            self._task = asyncio.get_running_loop().create_task(self._replace(live))
            self._task.add_done_callback(surface)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _replace(self, low: Generation) -> None:
        release = low.release
        extra = {"model": release.model, "version": release.version}
        problem, fresh = self._cramped(low), None
        try:
            if problem is None:
                fresh = await self._start(low)
                if self._holds(low):
                    await self._take_over(fresh)
                    log.info("the process %d took over from %d, whose priority is low", fresh.pid, low.pid, extra=extra)
                else:
                    fresh.close()
        except EdgedError as error:
            problem = error.fault
            if fresh is not None:
                fresh.close()
        if problem is not None and self._holds(low):
            log.warning("its priority stays low: %s", problem.message, extra=extra)


def surface(task: asyncio.Task[None]) -> None:
    """Raises what nobody expected of it, now rather than when the task is collected (RULES 23)."""
    if not task.cancelled():
        task.result()
