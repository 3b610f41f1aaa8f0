"""A worker runs code from elsewhere: whatever it says ends that worker at most (RULES 11, 23)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import msgspec
import pytest

from edged.config.schema import Model
from edged.delivery.documents import Golden
from edged.delivery.examiner import examine
from edged.errors import EdgedError
from edged.messages import Input, Source
from edged.tensors import Compared
from edged.topics import Tree
from edged.transports.mqtt.inputs import Arrival, Target
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.results import Receipt, Results, Sender
from edged.worker import entry
from tests import models
from tests.integration.serving import evil
from tests.integration.serving.conftest import Bench

Play = Callable[..., None]


def faults_of_ours() -> list[dict[str, Any]]:
    """What would end the daemon."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: found.append(context))
    return found


@pytest.mark.parametrize(
    "worker",
    [evil.refuses_with_a_code_of_its_own, evil.blames_a_novel, evil.stacks_nothing, evil.runs_on_a_novel],
)
def test_what_no_worker_of_ours_would_say_ends_it(
    play: Play, monkeypatch: pytest.MonkeyPatch, worker: FunctionType
) -> None:
    monkeypatch.setattr(entry, "main", worker)

    async def scenario(bench: Bench) -> None:
        found = faults_of_ours()
        with pytest.raises(EdgedError, match="broke the protocol"):
            await asyncio.wait_for(bench.route.start(bench.release(models.linear())), 20)
        assert found == []

    play(scenario)


@pytest.mark.parametrize(
    "said",
    [
        b"\xc1",
        msgspec.msgpack.encode([1, 2]),
        msgspec.msgpack.encode(Compared(cases=10**9)),
        msgspec.msgpack.encode(Compared(cases=0)),
        msgspec.msgpack.encode(Compared(cases=1, cpu_s=math.nan)),
        msgspec.msgpack.encode(Compared(cases=1, difference=math.nan)),
        msgspec.msgpack.encode(Compared(cases=1, beyond=1, given="x" * 10_000)),
        b"",
    ],
)
def test_a_verdict_on_golden_answers_is_looked_at_before_it_is_believed(
    play: Play, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(entry, "main", partial(evil.says_of_its_golden_answers, said))

    async def scenario(bench: Bench) -> None:
        found = faults_of_ours()
        release = bench.release(models.linear())
        trial = examine(bench.route, release, factor=3, clock=time.monotonic, golden=Golden())
        examined = await asyncio.wait_for(trial, 20)
        assert examined.candidate is None
        assert examined.judgement.fault is not None
        assert "broke the protocol" in examined.judgement.fault.message
        assert found == []

    play(scenario)


def test_an_answer_that_is_none_is_an_error_to_its_sender(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "main", evil.answers_nothing)
    tree, published, acknowledged = Tree("edged", "box"), list[Publication](), list[int]()
    results = Results(
        tree,
        [Model("m")],
        publish=published.append,
        acknowledge=lambda _number, mid: acknowledged.append(mid),
        packet_limit=lambda: 2**20,
        dropped=lambda _model, _reason: None,
    )

    async def scenario(bench: Bench) -> None:
        found = faults_of_ours()
        await bench.route.serve(bench.release(models.linear()))
        arrival = Arrival(tree.infer("m"), b"[1, 2, 3, 4]", 1, False, 7, 1)
        sender = Sender(arrival, Target("m", -1, {}), Receipt.of(arrival, 1), 0.0, 0, tree.result("m"))
        bench.route.offer(
            Input("m", arrival.payload, Source.MQTT_QOS1, partial(results.settle, sender), time.monotonic())
        )
        await bench.until(lambda: published)
        assert published[0].topic == tree.error("m")
        assert b'"internal"' in published[0].payload
        assert published[0].handed is not None
        published[0].handed()
        assert acknowledged == [7]
        assert found == []

    play(scenario)
