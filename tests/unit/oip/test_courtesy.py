"""What one client has sent together: taken for a while, then after others."""

from __future__ import annotations

import asyncio

from edged.oip.courtesy import Courtesy


def test_it_yields_after_two_milliseconds_and_goes_on_in_a_later_turn() -> None:
    async def scenario() -> None:
        times, went_on = iter((100.0, 100.001, 100.0019, 100.002)), list[bool]()
        courtesy = Courtesy(times.__next__, lambda: went_on.append(courtesy.yields))
        courtesy.begin()
        for _ in range(3):
            courtesy.between()
            assert not courtesy.yields
        courtesy.between()
        assert courtesy.yields
        assert went_on == []
        await asyncio.sleep(0)
        assert went_on == [False]

    asyncio.run(scenario())


def test_however_long_the_first_takes_it_is_taken() -> None:
    """Else what takes 3 ms would never be done."""
    times = iter((100.0, 200.0))
    courtesy = Courtesy(times.__next__, lambda: None)
    for _ in range(2):
        courtesy.begin()
        courtesy.between()
        assert not courtesy.yields
