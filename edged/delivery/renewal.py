"""Other settings for a model that runs: a process under them beside the old one, then the switch, as for a push."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from edged.config.schema import Model
from edged.delivery.record import Record, Stored
from edged.delivery.reversal import retire_previous
from edged.delivery.shelf import Shelf
from edged.errors import EdgedError
from edged.serving.generation import Generation
from edged.serving.release import Release, Tally
from edged.serving.route import Route
from edged.serving.terms import Terms


class Prepared(msgspec.Struct, frozen=True, eq=False):
    """What is ready for a change. `process` None: the one that runs can stay. `before`: what ran when it was made."""

    terms: Terms
    factory: Stored | None
    before: Release | None
    process: Generation | None


class Renewal(msgspec.Struct, frozen=True, eq=False):
    """A change that waits for its model's turn. `cut` is called in the moment in which it takes effect."""

    prepared: Prepared
    cut: Callable[[], None]
    done: asyncio.Future[None]


async def prepare(route: Route, shelf: Shelf, record: Record, settings: Model) -> Prepared:
    """Makes ready what `settings` need, and changes nothing.

    Raises EdgedError: what kept the process from loading; `starting` when there would be nothing to serve.
    """
    terms, factory, before = route.terms.changed(settings), await shelf.look(settings.file), route.release
    wanted = shelf.future(record, settings.file, factory)
    if wanted is None and before is not None:
        raise EdgedError("starting", "without its file there is nothing left to serve")
    if wanted is None or (wanted == before and not route.terms.renews(settings, wanted)):
        return Prepared(terms, factory, before, None)
    same = route.live is not None and wanted == before
    tally = route.live.tally if route.live is not None and same else Tally()
    await route.make_room(wanted)
    try:
        return Prepared(terms, factory, before, await route.start(wanted, tally, terms=terms))
    except BaseException:
        route.resume()
        raise


async def discard(route: Route, prepared: Prepared) -> None:
    """Ends what was made ready and is not wanted after all."""
    if prepared.process is not None:
        await route.retire(prepared.process)
        route.resume()


async def perform(route: Route, shelf: Shelf, record: Record, renewal: Renewal) -> None:
    """Makes the change take effect, and says so to whoever waits; when it cannot, the old settings still hold."""
    try:
        await _perform(route, shelf, record, renewal)
    except EdgedError as error:
        if not renewal.done.done():  # cancelled: nobody waits any more
            renewal.done.set_exception(error)
    else:
        if not renewal.done.done():
            renewal.done.set_result(None)


async def _perform(route: Route, shelf: Shelf, record: Record, renewal: Renewal) -> None:
    prepared = renewal.prepared
    settings = prepared.terms.settings

    def cut() -> None:
        shelf.adopt(settings.file, prepared.factory)
        route.adopt(prepared.terms)
        renewal.cut()

    for attempt in (1, 2):
        if prepared.before is not route.release:  # a push or the way back came first
            await discard(route, prepared)
            prepared = await prepare(route, shelf, record, settings)
        if prepared.process is None:
            cut()
            return
        try:
            await route.switch(prepared.process, cut)
        except EdgedError:  # it has died since
            if attempt == 2:
                raise
            prepared = await prepare(route, shelf, record, settings)
        else:
            await retire_previous(route)
            return
