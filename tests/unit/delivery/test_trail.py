"""The audit on the disk: what a second start, a full disk, a power cut and a flood make of it."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edged.delivery import trail as module
from edged.delivery.audit import Chain, Decision, Entry
from edged.delivery.trail import KEPT, NAME, SIZE, WAITING, Trail, files, lines

ROOT = Path(__file__).resolve().parents[3]


def decision(number: int = 0, *, code: str = "", model: str = "digits") -> Decision:
    return Decision("rejected" if code else "offered", f"message {number}", model, str(number), code=code)


async def opened(root: Path, told: list[Entry] | None = None, size: int = SIZE) -> Trail:
    told = [] if told is None else told
    trail = Trail(root, told.extend, every_s=0, size=size)
    await trail.open()
    return trail


def read(root: Path) -> tuple[list[Entry], list[str]]:
    """The entries, and what is wrong with the chain."""
    walk = Chain()
    found = [walk.take(line) for line in lines(root)]
    return [one for one, _ in found if one], [problem for _, problem in found if problem]


def write(root: Path, count: int, size: int = SIZE) -> None:
    async def scenario() -> None:
        trail = await opened(root, size=size)
        for number in range(count):
            trail.add(decision(number))
            await trail.flush()

    asyncio.run(scenario())


def test_a_decision_is_on_the_disk_before_it_is_told(tmp_path: Path) -> None:
    seen: list[int] = []

    def told(entries: Sequence[Entry]) -> None:
        seen.append(len(read(tmp_path)[0]) - len(entries))

    async def scenario() -> None:
        trail = Trail(tmp_path, told, every_s=0)
        await trail.open()
        trail.add(decision(1))
        trail.add(decision(2, model="other"))
        await trail.flush()
        trail.add(decision(3))
        await trail.flush()

    asyncio.run(scenario())
    assert seen == [0, 2]


def test_the_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    write(tmp_path, 3)
    write(tmp_path, 2)
    entries, problems = read(tmp_path)
    assert [one.n for one in entries] == [1, 2, 3, 4, 5]
    assert problems == []


def test_the_oldest_files_go_and_the_chain_through_the_others_is_whole(tmp_path: Path) -> None:
    write(tmp_path, 60, size=1000)
    assert len(files(tmp_path)) == KEPT
    assert all(file.stat().st_size <= 1000 for file in files(tmp_path))
    entries, problems = read(tmp_path)
    assert problems == []
    assert entries[0].n > 1
    assert entries[-1].n == 60
    write(tmp_path, 1, size=1000)
    assert read(tmp_path)[0][-1].n == 61


def test_a_line_that_a_power_cut_left_short_is_taken_away(tmp_path: Path) -> None:
    write(tmp_path, 3)
    content = (tmp_path / NAME).read_bytes()
    for cut in range(1, 200, 13):
        (tmp_path / NAME).write_bytes(content[:-cut])
        write(tmp_path, 1)
        entries, problems = read(tmp_path)
        assert problems == []
        assert [one.n for one in entries] == [1, 2, 3]


def test_a_file_that_was_cut_between_two_names_is_found(tmp_path: Path) -> None:
    write(tmp_path, 3)
    (tmp_path / NAME).rename(tmp_path / f"{NAME}.1")
    write(tmp_path, 1)
    entries, problems = read(tmp_path)
    assert [one.n for one in entries] == [1, 2, 3, 4]
    assert problems == []


def test_a_broken_line_does_not_end_the_audit_and_stays_visible(tmp_path: Path) -> None:
    write(tmp_path, 2)
    with (tmp_path / NAME).open("ab") as file:
        file.write(b"rubbish\n")
    write(tmp_path, 1)
    entries, problems = read(tmp_path)
    assert [one.n for one in entries] == [1, 2, 3]
    assert problems == ["a line after entry 2 cannot be read"]


def test_a_flood_of_one_kind_is_one_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        trail = await opened(tmp_path)
        for number in range(1000):
            trail.add(decision(number, code="unsigned"))
        trail.add(decision(7))
        trail.add(decision(8))
        await trail.flush()

    asyncio.run(scenario())
    entries, _ = read(tmp_path)
    found = [(one.event, one.count, one.version) for one in entries]
    assert found == [("rejected", 1000, "999"), ("offered", 1, "7"), ("offered", 1, "8")]


def test_it_writes_once_a_second_at_most(tmp_path: Path) -> None:
    told: list[int] = []

    async def scenario() -> None:
        first = asyncio.Event()

        def tell(entries: Sequence[Entry]) -> None:
            told.append(len(entries))
            first.set()

        trail = Trail(tmp_path, tell, every_s=3600)
        await trail.open()
        running = asyncio.create_task(trail.run())
        trail.add(decision(1))
        await first.wait()
        for number in range(5):
            trail.add(decision(number, model=f"m{number}"))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert told == [1]
        await trail.close()
        running.cancel()

    asyncio.run(scenario())
    assert told == [1, 5]


@pytest.fixture
def no_room(tmp_path: Path) -> Iterator[None]:
    """Files have at most 600 bytes: what a full disk looks like to whoever writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_holds_nothing_up_and_is_caught_up_with(
    tmp_path: Path, no_room: None, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Entry] = []

    async def scenario() -> None:
        trail = await opened(tmp_path, told)
        for number in range(6):
            trail.add(decision(number))
            await trail.flush()
        assert [one.n for one in told] == [1, 2, 3, 4, 5, 6]
        on_disk, problems = read(tmp_path)
        assert 0 < len(on_disk) < 6
        assert problems == []
        assert trail.behind == 6 - len(on_disk)
        assert "[no_space]" not in caplog.text
        assert any(getattr(one, "code", "") == "no_space" for one in caplog.records)
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        )
        trail.add(decision(7))
        await trail.flush()
        assert (trail.behind, trail.lost) == (0, 0)

    asyncio.run(scenario())
    entries, problems = read(tmp_path)
    assert [one.n for one in entries] == [1, 2, 3, 4, 5, 6, 7]
    assert problems == []


def test_who_asked_waits_for_the_line_but_not_for_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, written = threading.Event(), module._append

    def hangs(*arguments: Any) -> None:
        goes_on.wait(20)
        written(*arguments)

    async def scenario() -> None:
        trail = await opened(tmp_path)
        writer = asyncio.create_task(trail.run())
        trail.add(decision(1))
        await trail.caught_up()
        assert len(read(tmp_path)[0]) == 1
        monkeypatch.setattr(module, "_append", hangs)
        monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
        trail.add(decision(2))
        await trail.caught_up()
        assert (len(read(tmp_path)[0]), trail.behind) == (1, 1)
        goes_on.set()
        monkeypatch.setattr(module, "_PATIENCE_S", 20)
        await trail.caught_up()
        assert len(read(tmp_path)[0]) == 2
        writer.cancel()

    asyncio.run(scenario())
    entries, problems = read(tmp_path)
    assert ([one.message for one in entries], problems) == (["message 1", "message 2"], [])


def test_who_stops_waiting_has_no_line_written_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a request for the audit does that is under way when the daemon stops."""
    entered, leave, append = threading.Event(), threading.Event(), module._append

    def slow(root: Path, content: bytes, size: int) -> None:
        entered.set()
        leave.wait(30)
        append(root, content, size)

    monkeypatch.setattr(module, "_append", slow)
    told: list[Entry] = []

    async def scenario() -> None:
        trail = await opened(tmp_path, told)
        trail.add(decision(1))
        asked = asyncio.ensure_future(trail.flush())
        await asyncio.to_thread(entered.wait, 30)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        leave.set()
        trail.add(decision(2))
        await trail.close()

    asyncio.run(scenario())
    entries, problems = read(tmp_path)
    assert [one.n for one in entries] == [one.n for one in told] == [1, 2]
    assert problems == []


def test_what_waits_for_the_disk_is_bounded_and_what_is_lost_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)
    working = module._append

    def broken(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    async def scenario() -> None:
        trail = await opened(tmp_path)
        monkeypatch.setattr(module, "_append", broken)
        for number in range(WAITING + 50):
            trail.add(decision(number))
            await trail.flush()
        assert (trail.behind, trail.lost) == (WAITING, 50)
        monkeypatch.setattr(module, "_append", working)
        await trail.flush()
        assert trail.behind == 0

    asyncio.run(scenario())
    entries, problems = read(tmp_path)
    assert problems == ["entry 1 is followed by entry 52"]
    assert [one.n for one in entries] == [1, *range(52, WAITING + 52)]


KILLED = """
import asyncio, sys
from pathlib import Path
from edged.delivery.audit import Decision
from edged.delivery.trail import Trail

async def main():
    trail = Trail(Path(sys.argv[1]), lambda entries: print(entries[-1].n, flush=True), every_s=0, size=2000)
    await trail.open()
    number = 0
    while True:
        trail.add(Decision("offered", "x" * (number % 90), "digits"))
        await trail.flush()
        number += 1

asyncio.run(main())
"""


def test_what_was_told_outlives_a_kill_at_any_moment(tmp_path: Path) -> None:
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as process:
            assert process.stdout is not None
            told = [int(line) for line in itertools.islice(process.stdout, 30)]
            process.kill()
            told += [int(line) for line in process.stdout.read().split()]
        entries, problems = read(tmp_path)
        assert problems == []
        assert entries[-1].n >= told[-1]
