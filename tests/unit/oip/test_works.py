"""Work that a request waits for: how it ends is told once, and before what waits behind it goes on."""

from __future__ import annotations

import asyncio

import pytest

from edged.errors import EdgedError, Fault
from edged.oip.works import Works


async def played(raises: Exception | None, *, cancel: bool = False) -> list[str]:
    told: list[str] = []
    works, over = Works(), asyncio.Event()

    async def work() -> None:
        told.append("begun")
        await asyncio.sleep(0)
        if raises is not None:
            raise raises

    def refuse(problem: Fault) -> None:
        told.append(problem.code)

    def after() -> None:
        told.append("over")
        over.set()

    works.do(work(), "POST /v2", refuse, after)
    await asyncio.sleep(0)  # it has begun
    if cancel:
        works.cancel()
    await over.wait()
    return told


@pytest.mark.parametrize(
    ("raises", "cancel", "told"),
    [
        (None, False, ["begun", "over"]),
        (EdgedError("queue_full", "full"), False, ["begun", "queue_full", "over"]),
        (ZeroDivisionError("on purpose"), False, ["begun", "internal", "over"]),
        (None, True, ["begun", "over"]),
    ],
)
def test_each_end_is_told_in_its_order(
    raises: Exception | None, cancel: bool, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert asyncio.run(played(raises, cancel=cancel)) == told
    bug = isinstance(raises, ZeroDivisionError)
    assert ("a bug while answering 'POST /v2'" in caplog.text) is bug
    assert ("ZeroDivisionError: on purpose" in caplog.text) is bug
