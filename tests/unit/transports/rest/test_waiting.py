"""Nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from edged.errors import Fault, fault
from edged.messages import Answer
from edged.transports.rest import waiting
from edged.transports.rest.waiting import Waiting, settle


def test_the_net_catches_only_what_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_SWEEP_S", 0.01)
    now = [100.0]

    async def scenario() -> None:
        net = Waiting(lambda: now[0])
        early, late, answered = net.open(110.0), net.open(120.0), net.open(110.0)
        settle(answered, Answer(b"{}", 0, "1"))
        now[0] = 115.0
        outcome = await asyncio.wait_for(early, 5)
        assert isinstance(outcome, Fault)
        assert outcome.code == "deadline"
        assert isinstance(await answered, Answer)
        assert not late.done()
        net.give_up(fault("stopping", "the end"))
        settle(late, Answer(b"{}", 0, "1"))  # the first outcome counts
        assert await late == fault("stopping", "the end")
        for future in (early, late, answered):
            net.close(future)
        await asyncio.sleep(0.05)
        assert not net._latest_s
        assert net._sweep is None  # an idle box is left asleep

    asyncio.run(scenario())
