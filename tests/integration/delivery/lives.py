"""A box that installs one release after another until its life ends, and what must be true of the disk it leaves.

    python -m tests.integration.delivery.lives files|daemon kill FOLDER INSTALLS SEED [fsync|rename]
    python -m tests.integration.delivery.lives files|daemon cut FOLDER ROUNDS SEED [fsync|rename]

`files`: store and fetcher alone, fast. `daemon`: the installer, with signed wants, trials and probations;
its processes are in memory. `kill` ends a life by SIGKILL. `cut` ends the file system (EXT4_IOC_SHUTDOWN on a loop
device: what was not made durable is gone) and needs root. Each life is a process that has been forked here, goes on
where the one before was cut, and tells through a pipe what it has done. A last argument leaves that out of every life,
to see that the checks notice.
Prints {"installs", "lives", "ends", "problems"} as JSON.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import msgspec

from edged.delivery.documents import Release
from edged.delivery.fetcher import Fetcher
from edged.delivery.record import Phase, Record, Stored
from edged.delivery.store import Store, decode
from edged.errors import EdgedError
from tests.couriers import Broker, key_of, release, unsigned
from tests.disks import LOST, Disk
from tests.integration.delivery.fleet import Fleet, Member, living
from tests.signing import ISSUED_MS

CHUNK: Final = 16 * 1024
_COMMON: Final = random.Random(0).randbytes(8 * CHUNK)  # noqa: S311 - what each release has of the one before
_LINES: Final = 20  # that a life tells at most before its end; an install tells three, or nine
_MOMENT_S: Final = 0.01  # from the last of them to the end, at most; or as long as a line has taken, on a slow disk
_PATIENCE_S: Final = 60.0


def contents(version: int) -> dict[str, bytes]:
    own = random.Random(version).randbytes(5 * CHUNK + version)  # noqa: S311
    return {"model.onnx": _COMMON + own, "labels.txt": b"zero\none\n"}


def document(version: int) -> Release:
    return release(contents(version), version=version, chunk=CHUNK)


# --- a life -------------------------------------------------------------------------------------------------


class Life(Protocol):
    """`prepare` once, before all lives; `contents`: what a version's folder must hold."""

    def prepare(self, root: Path) -> None: ...
    def live(self, root: Path, tell: Callable[[str], object]) -> None: ...
    def contents(self, version: int) -> dict[str, bytes]: ...


class Daemon:
    """Wants version after version, and waits for the verdict on each."""

    def __init__(self, folder: Path) -> None:
        self._fleet: Final = Fleet(folder)

    def prepare(self, root: Path) -> None:
        (root / "factory.onnx").write_bytes(b"good factory")
        os.sync()

    def contents(self, version: int) -> dict[str, bytes]:
        return {"model.onnx": b"good " + contents(version)["model.onnx"]}

    def live(self, root: Path, tell: Callable[[str], object]) -> None:
        fleet = self._fleet

        class Talkative(Member):
            def _publish(self, model: str, status: dict[str, object]) -> None:
                tell(str(status["phase"]))
                super()._publish(model, status)

        async def course(box: Member) -> None:
            tell("opened")
            version = box.installer.model("m").record.highest
            while True:
                version += 1
                content = self.contents(version)["model.onnx"]
                wanted = fleet.release(content, version)
                fleet.upload(wanted, content)
                fleet.seq = ISSUED_MS + 2 * version
                tell(f"committing {version}")
                fleet.want(wanted)
                status = await box.told(wanted, "active", "failed", "rolled_back", "rejected")
                tell(f"{'committed' if status['verdict'] == 'active' else status['verdict']} {version}")
                fleet.broker.retained.clear()

        asyncio.run(living(fleet, root, course, kind=Talkative))


class Files:
    """The record first, the files, the record again, as the daemon would."""

    def prepare(self, root: Path) -> None:
        """There is nothing to prepare."""

    def contents(self, version: int) -> dict[str, bytes]:
        return contents(version)

    def live(self, root: Path, tell: Callable[[str], object]) -> None:
        live(root, tell)


def live(root: Path, tell: Callable[[str], object]) -> None:
    """Installs version after version, as the daemon would: the record first, the files, the record again."""
    store = Store(root)
    record = store.open().get("m", Record())
    tell("opened")
    broker = Broker()
    courier = broker.courier()
    fetcher = Fetcher(courier, store, broker.ota)
    courier.callbacks(
        lambda topic, payload, retained: fetcher.on_document(topic, payload, retained=retained),
        lambda up: fetcher.on_connected() if up else fetcher.on_lost(),
    )

    async def install(record: Record) -> Record:
        version = record.candidate.version if record.candidate else record.highest + 1
        wanted = document(version)
        key = key_of(wanted)
        broker.upload(wanted, contents(version), unsigned(wanted))
        stored = Stored(version, key, wanted.size)
        record = msgspec.structs.replace(record, phase=Phase.TRIAL, candidate=stored, highest=version)
        await asyncio.to_thread(store.commit, "m", record)
        tell("fetching")
        await fetcher.files(key, unsigned(wanted), wanted)
        tell(f"committing {version}")
        record = msgspec.structs.replace(
            record, phase=Phase.IDLE, candidate=None, active=stored, previous=record.active
        )
        await asyncio.to_thread(store.commit, "m", record)
        tell(f"committed {version}")
        await asyncio.to_thread(store.prune)
        return record

    async def forever(record: Record) -> None:
        courier.connect()
        while True:
            record = await install(record)
            broker.retained.clear()

    asyncio.run(forever(record))


def leave_out(what: str) -> None:
    """Makes of it what a careless store would do."""
    if what == "fsync":
        for name in ("fsync", "fdatasync"):
            setattr(os, name, lambda _descriptor: None)
    elif what == "rename":
        setattr(Path, "replace", _in_place)  # noqa: B010 - mypy sees no assignment to a method here


def _in_place(path: Path, target: Path) -> Path:
    content = path.read_bytes()
    quarter = 1 + len(content) // 4
    with target.open("wb", buffering=0) as file:
        for at in range(0, len(content), quarter):
            file.write(content[at : at + quarter])
            os.fsync(file.fileno())  # so that, on a slow disk as well, most of the time goes here
            time.sleep(0.001)
    path.unlink()
    return target


# --- what it leaves -----------------------------------------------------------------------------------------


class Checker:
    """Follows what lives have told, and compares it with what is on the disk.

    What has told that it is committed is never gone back from, and nothing answers that has not begun.
    """

    def __init__(self, life: Life) -> None:
        self._life = life
        self.committed = self.begun = 0
        self.problems: list[str] = []
        self.ends: collections.Counter[str] = collections.Counter()

    def look(self, root: Path, told: str) -> None:
        lines = told.splitlines()
        self.ends[lines[-1].split()[0] if lines else "began"] += 1
        for line in lines:
            word, _, version = line.partition(" ")
            if word == "committing":
                self.begun = max(self.begun, int(version))
            elif word == "committed":
                self.committed = int(version)
        record = self._found(root)
        found = record.active.version if record.active else 0
        if not self.committed <= found <= self.begun:
            self.problems.append(f"version {found} where {self.committed} was committed and {self.begun} begun")
        if record.phase is not Phase.PROBATION:  # from which there is a way back
            self.committed = max(found, self.committed)

    def _found(self, root: Path) -> Record:
        """What a start finds; what is wrong with it and with the rest is noted."""
        try:
            if (root / "state.json").exists():
                decode((root / "state.json").read_bytes())
            elif self.committed:
                self.problems.append("state.json has gone")
        except ValueError as error:
            self.problems.append(f"state.json: {error}")
        store = Store(root)
        record = store.open().get("m", Record())
        for stored in (record.active, record.previous):
            if stored is not None and not stored.factory and not self._is_whole(store, stored):
                self.problems.append(f"version {stored.version} is not whole")
        for path in (root / "releases").iterdir():
            if path.name not in record.needs() or list(path.glob("*.tmp")):
                self.problems.append(f"{path.name[:8]} should not be there")
        store.close()
        return record

    def _is_whole(self, store: Store, stored: Stored) -> bool:
        folder = store.folder(stored.key)
        there = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "release.json"}
        return store.intact(stored.key) and there == self._life.contents(stored.version)


# --- how a life ends ----------------------------------------------------------------------------------------


def one_life(life: Life, root: Path, end: Callable[[], object], chance: random.Random, without: str) -> str:
    """What it told before its end, which comes at any moment."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        leave_out(without)
        try:
            life.live(root, lambda line: os.write(writer, f"{line}\n".encode()))
        except (OSError, EdgedError):  # the disk has gone
            os._exit(0)
        except BaseException:  # noqa: BLE001 - of a disk that has gone nothing else is expected: it is told
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    told, slowest_s = _heard(reader, chance.randrange(_LINES))
    time.sleep(chance.uniform(0, max(_MOMENT_S, slowest_s)))
    end()
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        told += pipe.read()
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"a life ended by itself after {told!r}")
    return told


def _heard(reader: int, lines: int) -> tuple[str, float]:
    """What it tells until it has told so many lines, and the longest it was silent between two."""
    told, slowest_s, last = "", 0.0, 0.0
    while told.count("\n") < lines:
        if not select.select([reader], [], [], _PATIENCE_S)[0]:
            raise RuntimeError(f"a life hangs after {told!r}")
        said = os.read(reader, 4096).decode()
        if not said:
            break
        now = time.monotonic()
        if told:
            slowest_s = max(slowest_s, now - last)
        told, last = told + said, now
    return told, slowest_s


def _nothing() -> None:
    """The kill that follows is the end."""


def main(what: str, how: str, folder: Path, count: int, seed: int, without: str = "") -> None:
    life: Life = Daemon(folder) if what == "daemon" else Files()
    chance, checker, lives, installs = random.Random(seed), Checker(life), 0, 0  # noqa: S311
    disk = Disk(folder) if how == "cut" else None
    mounted: AbstractContextManager[object] = disk or nullcontext()
    root = (disk.mount if disk else folder) / "state"
    with mounted:
        root.mkdir()
        life.prepare(root)
    while (lives if disk else installs) < count and not checker.problems:
        with mounted:
            end = partial(disk.cut, chance.randint(1, LOST)) if disk else _nothing
            told = one_life(life, root, end, chance, without)
        with mounted:
            root.mkdir(exist_ok=True)
            checker.look(root, told)
        lives, installs = lives + 1, installs + told.count("committed")
    sys.stdout.write(
        json.dumps({"installs": installs, "lives": lives, "ends": checker.ends, "problems": checker.problems})
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), *sys.argv[6:])
