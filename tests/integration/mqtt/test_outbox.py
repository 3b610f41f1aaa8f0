"""The outbox against a real Mosquitto: what is made while it is away comes out later, in order, once it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edged.config import schema
from edged.config.units import Duration, Rate, Size
from edged.messages import Answer, Input, Outcome, Source
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.segments import Segments
from tests import disks
from tests.brokers import Mosquitto
from tests.integration.mqtt.box import DIGITS, Box, User, run, running, until

RESULT = "edged/press-07/models/digits/result"
ALL = msgspec.structs.replace(DIGITS, output=schema.Output(from_="all"))
FAST = schema.Outbox(rate=Rate(10_000))


def a_box(broker: Mosquitto, folder: Path, *, model: schema.Model = ALL, outbox: schema.Outbox = FAST) -> Box:
    """One that publishes what is asked over HTTP, too, and keeps in `folder` what it cannot publish."""
    return Box(broker.url, model, folder=folder, outbox=outbox)


async def lose(broker: Mosquitto, box: Box) -> None:
    """Ends the broker, and returns when the box has noticed."""
    broker.kill()
    await until(lambda: not box.mqtt.facts().connected)


def ask(box: Box, *numbers: int) -> None:
    """Requests over HTTP, whose results are published too (output.from: all)."""
    for number in numbers:
        item = Input("digits", b"", Source.HTTP, lambda _outcome: None, time.monotonic(), 0)
        body = b'{"model_name":"digits","number":%d}' % number
        box.mqtt.also(item).reply(Answer(body, 0, "1", copy=body))


def numbers(user: User, topic: str = RESULT) -> list[int]:
    return [one["number"] for one in user.json(topic)]


def stored(box: Box) -> int:
    return box.mqtt.facts().outbox.messages


async def filed(box: Box, count: int) -> None:
    """Until so many messages are durable: nothing waits for the disk."""
    backlog: Any = box.mqtt._outlet._backlog
    await until(lambda: stored(box) == count and not backlog._writing)


def test_what_was_made_while_the_broker_was_away_comes_in_order(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(a_box(broker, tmp_path / "outbox")) as box:
            await lose(broker, box)
            ask(box, *range(300))
            await filed(box, 300)
            assert box.mqtt.facts().queued >= 300
            assert box.mqtt.facts().outbox.bytes > 300 * 50
            broker.start()
            with User(broker.port, RESULT) as user:
                await until(lambda: len(user.messages) >= 300)
                assert numbers(user) == list(range(300))
            await until(lambda: not list((tmp_path / "outbox").glob("*.segment")))
            assert (stored(box), box.mqtt.facts().outbox.bytes) == (0, 0)

    run(scenario)


def test_it_survives_a_restart(broker: Mosquitto, tmp_path: Path) -> None:
    folder = tmp_path / "outbox"

    async def scenario() -> None:
        async with running(a_box(broker, folder)) as box:
            await lose(broker, box)
            ask(box, *range(50))
            await filed(box, 50)
        broker.start()
        with User(broker.port, RESULT) as user:
            async with running(a_box(broker, folder), wait=False):
                await until(lambda: len(user.messages) >= 50)
                assert numbers(user) == list(range(50))

    run(scenario)


def test_what_memory_held_goes_first_and_is_on_the_disk_as_well(broker: Mosquitto, tmp_path: Path) -> None:
    folder = tmp_path / "outbox"

    async def scenario() -> None:
        async with running(a_box(broker, folder)) as box:
            outlet = box.mqtt._outlet
            outlet._outbox._window = 0  # the broker confirms nothing any more
            ask(box, *range(5))
            assert stored(box) == 0
            await lose(broker, box)
            ask(box, *range(5, 10))
            await filed(box, 5)
            await until((folder / "carried").exists)
            (tmp_path / "copy").mkdir()
            for file in folder.iterdir():
                (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
            segments = Segments(tmp_path / "copy")
            parts, _ = segments.open()
            found = [one for part in parts for one in segments.read(part.first, 0, part.count, 10**6)[1] if one]
            segments.close()
            assert [msgspec.json.decode(one.payload)["number"] for one in found] == list(range(10))
            broker.start()
            with User(broker.port, RESULT) as user:
                await until(lambda: len(user.messages) >= 10)
                assert numbers(user) == list(range(10))
            await until(lambda: not any(folder.glob("carried")))

    run(scenario)


def test_live_results_do_not_wait_for_old_ones(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = schema.Outbox(rate=Rate(20))
        async with running(a_box(broker, tmp_path / "outbox", outbox=settings)) as box:
            await lose(broker, box)
            ask(box, *range(40))
            await filed(box, 40)
            broker.start()
            with User(broker.port, RESULT) as user:
                await until(lambda: box.mqtt.facts().connected)
                ask(box, *range(1000, 1100))
                await until(lambda: 1099 in numbers(user))
                assert len([one for one in numbers(user) if one < 1000]) < 40
                await until(lambda: len(user.messages) >= 140)
                assert [one for one in numbers(user) if one < 1000] == list(range(40))
                assert [one for one in numbers(user) if one >= 1000] == list(range(1000, 1100))

    run(scenario)


def test_an_old_result_never_takes_the_place_of_a_newer_retained_one(broker: Mosquitto, tmp_path: Path) -> None:
    kept = msgspec.structs.replace(DIGITS, output=schema.Output(from_="all", retain=True))

    async def scenario() -> None:
        settings = schema.Outbox(rate=Rate(20))
        async with running(a_box(broker, tmp_path / "outbox", model=kept, outbox=settings)) as box:
            await lose(broker, box)
            ask(box, *range(10))
            await filed(box, 10)
            broker.start()
            await until(lambda: box.mqtt.facts().connected)
            ask(box, 99)
            await until(lambda: not box.mqtt.facts().queued)
            with User(broker.port, RESULT) as user:
                await until(lambda: user.messages)
                assert numbers(user) == [99]

    run(scenario)


def test_nothing_is_sent_later_than_it_may_be(broker: Mosquitto, tmp_path: Path) -> None:
    short = msgspec.structs.replace(DIGITS, output=schema.Output(from_="all", expire=Duration(1)))

    async def scenario() -> None:
        folder = tmp_path / "outbox"
        async with running(a_box(broker, folder, model=short)) as box:
            await lose(broker, box)
            ask(box, *range(10))
            await filed(box, 10)
        await asyncio.sleep(1)  # the time of which this is about
        broker.start()
        with User(broker.port, RESULT) as user:
            async with running(a_box(broker, folder, model=short)) as box:
                ask(box, 11)
                await until(lambda: box.mqtt.facts().dropped.get("expired") == 10)
                await until(lambda: numbers(user) == [11])

    run(scenario)


def test_the_oldest_go_when_it_is_full(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = schema.Outbox(size=Size(64 * 1024), rate=Rate(10_000))
        async with running(a_box(broker, tmp_path / "outbox", outbox=settings)) as box:
            await lose(broker, box)
            backlog: Any = box.mqtt._outlet._backlog
            for start in range(0, 1000, 100):
                ask(box, *range(start, start + 100))
                await until(lambda: not backlog._writing)
            lost = box.mqtt.facts().dropped["outbox_full"]
            assert stored(box) == 1000 - lost
            assert sum(file.stat().st_size for file in (tmp_path / "outbox").iterdir()) <= 64 * 1024
            assert 48 * 1024 < box.mqtt.facts().outbox.bytes <= 64 * 1024
            broker.start()
            with User(broker.port, RESULT) as user:
                await until(lambda: len(user.messages) >= 1000 - lost)
                assert numbers(user) == list(range(lost, 1000))

    run(scenario)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with disks.small(tmp_path, 4) as mount:
        yield mount


def test_a_full_disk_is_told_and_disturbs_nothing(broker: Mosquitto, small: Path) -> None:
    """Drops are counted, inputs acknowledged, and results that find a broker are not concerned."""
    ballast = small / "ballast"

    async def scenario() -> None:
        async with running(a_box(broker, small / "outbox")) as box:
            await lose(broker, box)
            ask(box, 1)
            await filed(box, 1)
            with ballast.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(2**16))
            handed: list[int] = []
            for number in range(3):
                late = Publication("x", b"", 1, handed=partial(handed.append, number))
                box.mqtt._outlet.publish(late)
            await until(lambda: box.mqtt.facts().outbox.fault)
            assert "No space left" in box.mqtt.facts().outbox.fault
            await until(lambda: box.mqtt.facts().dropped["outbox_failed"] == 3)
            assert handed == [0, 1, 2]
            broker.start()
            with User(broker.port, RESULT) as user:
                await until(lambda: box.mqtt.facts().connected)
                ask(box, 2)
                await until(lambda: sorted(numbers(user)) == [1, 2])
            await lose(broker, box)
            ballast.unlink()
            ask(box, 3)
            await until(lambda: stored(box) == 1 and not box.mqtt.facts().outbox.fault)
            broker.start()
            await until(lambda: box.mqtt.facts().connected)

    run(scenario)


def test_an_input_is_acknowledged_when_its_result_is_safe(broker: Mosquitto, tmp_path: Path) -> None:
    """Not before: `handed` comes with the disk's word."""

    async def scenario() -> None:
        async with running(a_box(broker, tmp_path / "outbox")) as box:
            await lose(broker, box)
            outcomes: list[Outcome] = []
            found: list[int] = []

            def safe() -> None:
                found.append(sum(file.stat().st_size for file in (tmp_path / "outbox").glob("*.segment")))

            box.mqtt._outlet.publish(Publication("x", bytes(1000), 1, handed=safe))
            assert not found
            await until(lambda: found)
            assert found[0] > 1000
            assert not outcomes
            broker.start()
            await until(lambda: box.connected)

    run(scenario)


def test_a_folder_that_cannot_be_made_at_the_start_is_tried_again(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "state").write_text("in its place")
        async with running(a_box(broker, tmp_path / "state" / "outbox")) as box:
            await lose(broker, box)
            ask(box, 1)
            await until(lambda: box.mqtt.facts().dropped.get("outbox_failed") == 1)
            assert "Not a directory" in box.mqtt.facts().outbox.fault
            (tmp_path / "state").unlink()
            ask(box, 2)
            await filed(box, 1)
            assert not box.mqtt.facts().outbox.fault
            broker.start()
            with User(broker.port, RESULT) as user:
                await until(lambda: numbers(user) == [2])

    run(scenario)


def test_what_was_under_way_when_the_broker_went_again_is_sent_again(broker: Mosquitto, tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = schema.Outbox(rate=Rate(100))
        async with running(a_box(broker, tmp_path / "outbox", outbox=settings)) as box:
            await lose(broker, box)
            ask(box, *range(100))
            await filed(box, 100)
            broker.start()
            with User(broker.port, RESULT) as user:
                await until(lambda: len(user.messages) > 20)
                outlet = box.mqtt._outlet
                outlet.confirmed = lambda *_: None  # type: ignore[method-assign]  # no word of it comes any more
                await until(lambda: len(outlet._outbox._flight) > 5)
                held = [msgspec.json.decode(one.payload)["number"] for one in outlet._outbox._flight.values()]
                await lose(broker, box)
                del outlet.confirmed
                first = numbers(user)
            broker.start()
            with User(broker.port, RESULT) as user:
                await until(lambda: not stored(box))
                await until(lambda: numbers(user)[-1:] == [99])
                assert numbers(user)[0] == held[0]  # those that were not confirmed come again, in order
                assert numbers(user) == list(range(held[0], 100))
                assert first == list(range(len(first)))

    run(scenario)
