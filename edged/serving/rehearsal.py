"""Starts each model once, the way the daemon would, to say what is wrong before the daemon does (RULES 27)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from edged.config.schema import Model
from edged.errors import EdgedError
from edged.serving.generation import Generation
from edged.serving.observer import Nobody
from edged.serving.release import Release
from edged.serving.route import Route
from edged.serving.starter import Starter


@contextlib.asynccontextmanager
async def stage(settings: Model) -> AsyncIterator[Route]:
    """A model that nobody sends anything to; its processes end with it."""
    starter = Starter()
    try:
        route = Route(settings, starter, Nobody(), record=False)
        try:
            yield route
        finally:
            await route.stop()
    finally:
        starter.stop()


@contextlib.asynccontextmanager
async def started(settings: Model) -> AsyncIterator[Generation]:
    """A process that has loaded the model's own file; it ends with this. Raises EdgedError when it cannot be loaded."""
    async with stage(settings) as route:
        generation = await route.start(Release(settings.name, "0", "", settings.file, None))
        try:
            yield generation
        finally:
            generation.close()


class Rehearsed(NamedTuple):
    """By model: why it cannot be started, and why it would not run on the first of its providers."""

    faults: dict[str, EdgedError]
    fallbacks: dict[str, str]


def rehearse(models: Sequence[Model]) -> Rehearsed:
    """Starts those that have a file, one after the other. Not for a running loop."""
    return asyncio.run(_rehearse([model for model in models if model.file]))


async def _rehearse(models: Sequence[Model]) -> Rehearsed:
    found = Rehearsed({}, {})
    for model in models:
        try:
            async with started(model) as generation:
                if generation.facts is not None and generation.facts.fallback:
                    found.fallbacks[model.name] = generation.facts.fallback
        except EdgedError as error:
            found.faults[model.name] = error
    return found
