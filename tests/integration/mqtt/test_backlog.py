"""The outbox's disk, when it will not: what lies there is read another time, and nothing else waits for it."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edged import disk
from edged.config import schema
from edged.config.units import Rate
from edged.transports.mqtt import backlog as module
from edged.transports.mqtt import retrieval
from edged.transports.mqtt.backlog import Backlog
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.records import Moment
from edged.transports.mqtt.segments import Segments
from tests.integration.mqtt.box import run, until

NOW = Moment("boot", 100.0, 0)


class Bench:
    """A backlog over real files, and the outbox that asks it; `now_s` goes on by itself as fast as one wants it to."""

    def __init__(self, folder: Path, speed: float = 1.0) -> None:
        self.folder = folder
        self.dropped: list[str] = []
        self.carried: list[Publication] = []  # in memory at the end
        self.speed = speed
        self.backlog = Backlog(
            Segments(folder),
            schema.Outbox(rate=Rate(100_000)),
            lambda: NOW,
            dropped=self.dropped.append,
            ready=lambda: None,
            clock=lambda: asyncio.get_running_loop().time() * self.speed,
        )

    def file(self, *names: str, topic: str = "t", retain: bool = False) -> None:
        for name in names:
            self.backlog.file(Publication(topic, name.encode(), 1, retain))

    async def filed(self, count: int) -> None:
        await until(lambda: self.backlog.facts.messages == count and len(self.backlog) == count)

    def take(self) -> list[Publication]:
        """All that it hands out now."""
        found = []
        while (message := self.backlog.next()) is not None:
            found.append(message)
        return found

    async def taken(self, count: int) -> list[str]:
        """So many messages, each of which the broker has then."""
        found: list[str] = []

        def some() -> bool:
            for message in self.take():
                found.append(message.payload.decode())
                self.backlog.done(message)
            return len(found) >= count

        await until(some)
        return found


@asynccontextmanager
async def bench(folder: Path, speed: float = 1.0) -> AsyncIterator[Bench]:
    made = Bench(folder, speed)
    made.backlog.start()
    try:
        yield made
    finally:
        await made.backlog.stop(made.carried)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """`failing(errno)`: from now on no file can be opened to be read, 0: it can."""
    opened = disk.open_read
    number = 0

    def open_read(path: Path) -> int:
        if number and path.suffix in (".segment", ".aside"):
            raise OSError(number, os.strerror(number))
        return opened(path)

    def fails(errno_: int) -> None:
        nonlocal number
        number = errno_

    monkeypatch.setattr(disk, "open_read", open_read)
    yield fails


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_an_error_that_passes_costs_nothing(tmp_path: Path, failing: Callable[[int], None], number: int) -> None:
    async def scenario() -> None:
        async with bench(tmp_path / "outbox") as one:
            failing(number)
            one.file("1", "2", "3")
            backlog: Any = one.backlog
            await until(lambda: backlog._retrieval._failures)
            failing(0)
            assert await one.taken(3) == ["1", "2", "3"]
            assert one.dropped == []

    run(scenario)


def test_an_error_at_the_start_that_passes_costs_nothing(
    tmp_path: Path, failing: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is filed meanwhile: it is tried again all the same."""
    monkeypatch.setattr(module, "_AGAIN_S", 0.05)

    async def scenario() -> None:
        async with bench(tmp_path / "outbox") as one:
            one.file("1", "2", "3")
            await one.filed(3)
        failing(errno.EMFILE)
        async with bench(tmp_path / "outbox") as one:
            await until(lambda: "Too many" in one.backlog.facts.fault)
            failing(0)
            assert await one.taken(3) == ["1", "2", "3"]
            assert (one.dropped, one.backlog.facts.fault) == ([], "")

    run(scenario)


def test_a_file_that_the_disk_does_not_give_is_set_aside_and_tried_again(
    tmp_path: Path, failing: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.2)
    monkeypatch.setattr(retrieval, "LOOK_S", 0.2)

    async def scenario() -> None:
        async with bench(tmp_path / "outbox", speed=100) as one:
            failing(errno.EIO)
            one.file("1", "2")
            await until(lambda: one.backlog.facts.aside)
            assert "Input/output error" in one.backlog.facts.unread
            assert len(one.backlog) == 2
            failing(0)
            one.file("3")
            assert sorted(await one.taken(3)) == ["1", "2", "3"]
            assert not one.backlog.facts.unread
            await until(lambda: not any(one.folder.glob("*.*")))
            assert one.dropped == []

    run(scenario)


def test_one_file_that_cannot_be_read_keeps_nothing_else_away(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"

    async def scenario() -> None:
        for name in ("1", "2"):
            async with bench(folder) as one:
                one.file(name)
                await one.filed(int(name))
        first = min(folder.glob("*.segment"))
        first.rename(tmp_path / "hidden")
        first.symlink_to(tmp_path / "hidden")  # which nobody follows, root neither
        async with bench(folder) as one:
            assert await one.taken(1) == ["2"]
            one.file("3")
            assert await one.taken(1) == ["3"]
            assert one.backlog.facts.aside == 1
            assert (one.dropped, one.backlog.facts.fault) == ([], "")
        aside = first.with_suffix(".aside")
        aside.unlink()
        (tmp_path / "hidden").rename(aside)
        async with bench(folder) as one:
            assert await one.taken(1) == ["1"]
            assert one.dropped == []  # what was behind it is missing rightly

    run(scenario)


def test_damage_costs_what_is_damaged(tmp_path: Path) -> None:
    """What was read before it stays, and so does what is under way."""
    folder = tmp_path / "outbox"

    async def scenario() -> None:
        async with bench(folder) as one:
            one.file(*(f"message-{number:03}" + 10_000 * "x" for number in range(100)))
            await one.filed(100)
            backlog: Any = one.backlog
            await until(lambda: len(backlog._ahead._read) == 64)
            (segment,) = folder.glob("*.segment")
            content = segment.read_bytes()
            content = content.replace(b"message-070", b"message-!!!")
            at = content.index(b"message-089")
            segment.write_bytes(content[:at])  # and what is behind it is gone
            expected = [f"message-{number:03}" for number in range(89) if number != 70]
            assert [name[:11] for name in await one.taken(88)] == expected
            await until(lambda: len(one.dropped) == 12)
            assert set(one.dropped) == {"outbox_damaged"}
            one.file("later")
            assert await one.taken(1) == ["later"]

    run(scenario)


def test_what_is_carried_is_written_once_the_disk_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.05)
    folder = tmp_path / "outbox"

    async def scenario() -> None:
        async with bench(folder) as one:
            one.file("later")
            await one.filed(1)
            (folder / "carried.new").mkdir()
            messages = [Publication("t", name, 1) for name in (b"1", b"2")]
            one.backlog.carry(messages)
            await until(lambda: one.backlog.facts.fault)
            one.backlog.done(messages[0])
            one.carried = messages[1:]
            (folder / "carried.new").rmdir()
            await until(lambda: (folder / "carried").exists() and not one.backlog.facts.fault)
        async with bench(folder) as one:
            assert await one.taken(2) == ["2", "later"]

    run(scenario)


def test_what_the_disk_does_not_take_at_the_end_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"

    async def scenario() -> None:
        made = Bench(folder)
        made.backlog.start()
        made.file("1")
        await made.filed(1)
        (folder / "carried.new").mkdir()
        await made.backlog.stop([Publication("t", b"2", 1)])
        assert made.dropped == ["outbox_failed"]

    run(scenario)


def test_of_the_retained_ones_of_a_topic_the_newest_stays(tmp_path: Path) -> None:
    """It goes past older ones, which then are not retained; those filed after it, in the next absence, are."""

    async def scenario() -> None:
        async with bench(tmp_path / "outbox") as one:
            one.file("old", retain=True)
            await one.filed(1)
            one.file("being written", retain=True)
            one.backlog.live(Publication("t", b"live", 1, True))
            one.file("newer", retain=True)
            one.file("another", topic="u", retain=True)
            await one.filed(4)
            backlog: Any = one.backlog
            for _ in range(2):  # and again after a loss
                await until(lambda: len(backlog._ahead._read) == 4)
                assert [message.retain for message in one.take()] == [False, False, True, True]
                one.backlog.lost()

    run(scenario)


class Slow:
    """A step of the files that lasts until it is let go; `began` says that it is under way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.began, self.over = threading.Event(), threading.Event()
        step = getattr(Segments, name)

        def slowly(*arguments: Any, **more: Any) -> Any:
            self.began.set()
            assert self.over.wait(30)
            return step(*arguments, **more)

        monkeypatch.setattr(Segments, name, slowly)


def test_what_waits_for_a_slow_disk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch, "append")
    handed: list[int] = []

    async def scenario() -> None:
        async with bench(tmp_path / "outbox") as one:
            for number in range(4):
                message = Publication("t", bytes(6 * 2**20), 1)
                message.handed = partial(handed.append, number)
                one.backlog.file(message)
            await until(slow.began.is_set)
            assert (handed, one.dropped) == ([2, 3], ["outbox_full"] * 2)
            slow.over.set()
            await until(lambda: one.backlog.facts.messages == 2)
            assert sorted(handed) == [0, 1, 2, 3]

    run(scenario)


def test_a_read_that_was_under_way_at_a_loss_is_of_no_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it brings is further on than what is read again then, and would be taken for that."""

    async def scenario() -> None:
        async with bench(tmp_path / "outbox") as one:
            names = [str(number) for number in range(100)]
            one.file(*names)
            await one.filed(100)
            await until(lambda: one.backlog._ahead.enough)
            slow = Slow(monkeypatch, "read")
            taken = one.take()  # 64 of them; the next are read
            assert [message.payload.decode() for message in taken] == names[: len(taken)]
            await until(slow.began.is_set)
            one.backlog.lost()
            slow.over.set()
            assert await one.taken(100) == names
            assert one.dropped == []

    run(scenario)


def test_and_so_it_does_when_the_daemon_is_started_again_in_the_middle(tmp_path: Path) -> None:
    """Or an old result would take the place of one that came after it, until the next one."""
    folder = tmp_path / "outbox"

    async def scenario() -> None:
        async with bench(folder) as one:
            one.file("old", retain=True)
            one.file("the newest", topic="u", retain=True)
            await one.filed(2)
            one.backlog.live(Publication("t", b"live", 1, True))
        async with bench(folder) as one:
            one.file("newer", retain=True)
            await one.filed(3)
            backlog: Any = one.backlog
            await until(lambda: len(backlog._ahead._read) == 3)
            found = one.take()
            assert [(message.payload, message.retain) for message in found] == [
                (b"old", False),
                (b"the newest", True),
                (b"newer", True),
            ]
            for message in found:
                one.backlog.done(message)
            await until(lambda: not any(folder.glob("*.segment")))
        assert not (folder / "overtaken").exists()

    run(scenario)
