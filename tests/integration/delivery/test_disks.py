"""Real file systems that are full, cannot be written to, or go away while a release arrives."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from edged.delivery.record import Record, Stored
from edged.delivery.store import Store
from edged.errors import EdgedError
from tests.couriers import Broker, key_of, release, unsigned
from tests.disks import Disk
from tests.fetching import Box, holds, run

MB = 2**20
CONTENTS = {"model.onnx": os.urandom(2 * MB), "labels.txt": b"zero"}


def free(mount: Path) -> int:
    there = os.statvfs(mount)
    return there.f_bavail * there.f_frsize


def boxed(store: Store, *documents: tuple[dict[str, bytes], int]) -> Box:
    box = Box(store, Broker())
    for contents, version in documents:
        document = release(contents, version=version)
        box.broker.upload(document, contents, unsigned(document))
    box.courier.connect()
    return box


def test_ota_F29_a_full_disk_says_so_before_the_first_byte_and_takes_nothing(small: Path) -> None:
    store = Store(small / "state")
    store.open()
    active = store.stage(b"active" * 1000)
    store.commit("m", Record(active=Stored(1, active)))
    filler = small / "filler"
    filler.write_bytes(bytes(MB + MB // 2))  # 1.5 + 2 + 4 MB are more than there is
    before = free(small)
    document = release(CONTENTS)

    async def scenario() -> None:
        box = boxed(store, (CONTENTS, 2))
        with pytest.raises(EdgedError) as caught:
            await box.fetch(document)
        assert caught.value.fault.code == "no_space"
        assert box.broker.delivered == 0
        assert free(small) >= before - 16 * 1024  # the envelope
        assert store.intact(active)
        filler.unlink()
        await box.fetch(document)
        assert holds(store, document, CONTENTS)

    try:
        run(scenario())
    finally:
        store.close()


def test_ota_F29_room_is_made_of_what_nobody_needs_and_of_nothing_else(small: Path) -> None:
    store = Store(small / "state")
    store.open()
    first, second = release(CONTENTS), release(other := {"model.onnx": os.urandom(2 * MB)}, version=3)

    async def scenario() -> None:
        box = boxed(store, (CONTENTS, 2), (other, 3))
        await box.fetch(first)
        store.commit("m", Record(active=Stored(2, key_of(first))))
        with pytest.raises(EdgedError) as caught:
            await box.fetch(second)
        assert caught.value.fault.code == "no_space"
        assert holds(store, first, CONTENTS)
        store.commit("m", msgspec.structs.replace(store.record("m"), active=None))
        await box.fetch(second)
        assert holds(store, second, other)
        assert not store.folder(key_of(first)).exists()

    try:
        run(scenario())
    finally:
        store.close()


def test_ota_F30_a_disk_that_can_only_be_read_says_so_and_it_goes_on_later(small: Path) -> None:
    store = Store(small / "state")
    store.open()
    active = store.stage(b"active" * 1000)
    document = release(CONTENTS)

    async def refused() -> None:
        with pytest.raises(EdgedError) as caught:
            await boxed(store, (CONTENTS, 2)).fetch(document)
        assert caught.value.fault.code == "bad_store"
        assert "Read-only" in caught.value.fault.message
        assert store.intact(active)

    async def fetched() -> None:
        await boxed(store, (CONTENTS, 2)).fetch(document)
        assert holds(store, document, CONTENTS)

    store.close()  # its lock is open for writing, which keeps a file system writable
    for options, scenario in (("remount,ro", refused), ("remount,rw", fetched)):
        subprocess.run(["mount", "-o", options, small], check=True)
        run(scenario())


def test_ota_F30_a_disk_that_goes_away_ends_the_download_and_what_was_durable_is_used_again(disks: Path) -> None:
    contents = {"model.onnx": os.urandom(10 * MB)}
    document = release(contents)
    disk = Disk(disks)

    async def first() -> None:
        box = boxed(store, (contents, 2))
        box.broker.tamper = lambda _topic, payload: payload if box.broker.delivered < 60 else None
        fetching = asyncio.ensure_future(box.fetch(document))
        await box.until(lambda one: one.have > 5 * MB)
        disk.cut(1)
        box.broker.tamper = lambda _topic, payload: payload
        box.courier.cut()
        box.courier.connect()
        with pytest.raises(EdgedError) as caught:
            await fetching
        assert caught.value.fault.code == "bad_store"

    async def second() -> None:
        box = boxed(store, (contents, 2))
        await box.fetch(document)
        assert holds(store, document, contents)
        assert (
            box.broker.delivered < 1 + document.files["model.onnx"].count - 4 * MB // document.files["model.onnx"].chunk
        )

    for scenario in (first, second):
        with disk:
            store = Store(disk.mount / "state")
            store.open()
            store.claim(key_of(document))
            if scenario is first:
                store.commit("m", Record(previous=Stored(2, key_of(document))))  # a start keeps what a record names
            try:
                run(scenario())
            finally:
                store.close()
