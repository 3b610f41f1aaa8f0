"""Work for a request that is not done at once, with the boundary of RULES 23 around it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from edged.errors import EdgedError, Fault, fault

logger = logging.getLogger("edged.oip")

BUG: Final = "a bug while answering %r"
INTERNAL: Final = fault("internal", "edged failed to answer this request")


class Works:
    """Requests that are answered, or offered, later."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[None]] = set()

    def do(
        self,
        work: Coroutine[Any, Any, None],
        request: str,
        refuse: Callable[[Fault], None],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Does what cannot be done at once; `refuse` is told when that fails, and `after` is called in the end."""

        async def perform() -> None:
            try:
                await work
            except EdgedError as error:
                refuse(error.fault)
            except Exception:
                logger.exception(BUG, request)
                refuse(INTERNAL)
            finally:
                after()

        task = asyncio.create_task(perform())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def cancel(self) -> None:
        """Ends what is under way."""
        for task in self._under_way:
            task.cancel()
