"""For how long what one client has sent together is taken before others have their turn."""

from __future__ import annotations

import asyncio

from edged.oip.courtesy import Courtesy


def test_the_first_request_counts_too_and_the_rest_is_taken_when_others_had_their_turn() -> None:
    """A scrape of many models alone takes more than 2 ms: two of them in each turn would be twice as long."""

    async def scenario() -> None:
        now_s = 100.0
        gone_on: list[bool] = []
        courtesy = Courtesy(lambda: now_s, lambda: gone_on.append(courtesy.yields))
        courtesy.begin()
        now_s += 0.001
        courtesy.between()
        assert not courtesy.yields
        courtesy.begin()
        now_s += 0.003
        courtesy.between()
        assert (courtesy.yields, gone_on) == (True, [])
        await asyncio.sleep(0)
        assert (courtesy.yields, gone_on) == (False, [False])

    asyncio.run(scenario())
