"""Makes an earlier release answer again, and ends the process of the one that left."""

from __future__ import annotations

import logging

from edged.errors import EdgedError, Fault
from edged.serving.generation import Generation
from edged.serving.release import Release
from edged.serving.route import Route

log = logging.getLogger("edged.delivery")


async def ready(route: Route, release: Release) -> Generation:
    """A process of `release`: the warm one, so that nothing is loaded, else a new one.

    Raises EdgedError when it cannot be loaded, and no_space when the box has no memory for it beside the live one.
    """
    warm = route.previous
    if warm is not None and warm.alive and warm.release == release:
        return warm
    await route.make_room(release)
    return await route.start(release)


async def put_live(route: Route, release: Release, why: Fault, process: Generation | None = None) -> None:
    """Makes `release` answer, with `process` where there is one already.

    Where that fails the route is told to serve it and goes on trying; the one before, which is not
    wanted any more because of `why`, is ended.
    """
    for _ in range(2):  # a warm process may have died meanwhile: then a new one
        if route.live is not None and route.live.release == release:
            break
        try:
            await route.switch(process or await ready(route, release))
        except EdgedError as error:
            _log(release, error.fault)
            process = None
    bad = route.live
    if bad is None or bad.release != release:
        await route.serve(release)
        if bad is not None:
            bad.kill(why)


async def retire_previous(route: Route) -> None:
    """Ends the process that was kept warm."""
    if route.previous is not None:
        await route.retire(route.previous)


def _log(release: Release, problem: Fault) -> None:
    extra = {"model": release.model, "version": release.version, "code": problem.code}
    log.error("it does not answer yet: %s", problem.message, extra=extra)
