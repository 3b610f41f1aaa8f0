"""A release on its way from a broker in memory to a folder on the disk."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import resource
import threading
from pathlib import Path

import pytest

from edged.delivery.fetcher import Progress
from edged.delivery.folder import Download
from edged.delivery.store import Store
from edged.errors import EdgedError
from tests.couriers import blobs, key_of, release, unsigned
from tests.fetching import Box, holds, run

CHUNK = 1024
CONTENTS = {"model.onnx": random.Random(1).randbytes(10 * CHUNK + 7), "labels.txt": b"zero\none\n"}  # noqa: S311


def test_a_release_arrives_and_is_whole(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        box.courier.connect()
        content = await box.fetcher.document(key_of(document))
        assert content == unsigned(document)
        await box.fetch(document)
        assert holds(store, document, CONTENTS)
        assert store.document(key_of(document)) == content
        assert box.reports[-1] == Progress(document.size, document.size)
        assert [one.have for one in box.reports] == sorted(one.have for one in box.reports)
        assert box.broker.most_subscribed == 4
        assert not box.courier.subscribed
        assert not box.broker.needs
        assert box.fetcher.missing() == ()

    run(scenario())


def test_what_is_there_already_is_not_fetched_again(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        box.courier.connect()
        await box.fetch(document)
        before = box.broker.delivered
        await box.fetch(document)
        assert box.broker.delivered == before

    run(scenario())


def test_a_document_is_only_what_its_name_says(store: Store) -> None:
    document, other = release(CONTENTS, chunk=CHUNK), release(CONTENTS, version=3, chunk=CHUNK)

    async def scenario() -> None:
        box = Box(store)
        topic = box.broker.ota.release(key_of(document))
        box.broker.publish(topic, unsigned(other))
        box.courier.connect()
        waiting = asyncio.ensure_future(box.fetcher.document(key_of(document)))
        await asyncio.sleep(0.05)
        for wrong in (b"", b"{", b"x" * 70_000, unsigned(other)):
            box.broker.publish(topic, wrong, retain=False)
            await asyncio.sleep(0.01)
        assert not waiting.done()
        assert not box.fetcher.on_document(box.broker.ota.release(key_of(other)), unsigned(other))
        box.broker.publish(topic, unsigned(document))
        assert await waiting == unsigned(document)
        assert box.fetcher.unasked == 1

    run(scenario())


def test_two_may_wait_for_one_document(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)
    key = key_of(document)

    async def scenario() -> None:
        box = Box(store)
        box.courier.connect()
        first = asyncio.ensure_future(box.fetcher.document(key))
        second = asyncio.ensure_future(box.fetcher.document(key))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        box.broker.tamper = lambda _topic, _payload: None  # the first one's copy is lost on the way
        box.broker.upload(document, CONTENTS, unsigned(document))
        await asyncio.sleep(0)
        box.broker.tamper = lambda _topic, payload: payload
        assert await box.fetcher.document(key) == unsigned(document)
        assert await first == unsigned(document)
        assert not box.courier.subscribed

    run(scenario())


def test_ota_F02_F09_a_cut_download_goes_on_where_it_was(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        box.broker.tamper = lambda _topic, payload: payload if box.broker.delivered < 6 else None
        box.courier.connect()
        fetching = asyncio.ensure_future(box.fetch(document))
        await box.until(lambda one: one.have >= 5 * CHUNK)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        part = store.folder(key_of(document)) / ".model.onnx.part"
        assert part.stat().st_size == len(CONTENTS["model.onnx"])
        with part.open("r+b") as file:  # and one of its chunks has not survived
            file.seek(2 * CHUNK)
            file.write(b"gone")
        box.broker.tamper = lambda _topic, payload: payload
        box.broker.delivered = 0
        await box.fetch(document)
        assert holds(store, document, CONTENTS)
        whole = len(blobs(document, CONTENTS))
        assert box.broker.delivered == whole - 1 - 5 + 1  # one index is needless, five chunks are there, one is lost

    run(scenario())


def test_ota_F03_all_chunks_are_there_so_nothing_is_fetched(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)
    folder = store.folder(key_of(document))
    folder.mkdir()
    (folder / ".model.onnx.part").write_bytes(CONTENTS["model.onnx"])
    (folder / ".labels.txt.part").write_bytes(CONTENTS["labels.txt"])

    async def scenario() -> None:
        await Box(store).fetch(document)  # without a broker
        assert holds(store, document, CONTENTS)

    run(scenario())


def test_ota_F09_a_connection_that_breaks_all_the_time_is_enough(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        fetching = asyncio.ensure_future(box.fetch(document))
        while not fetching.done():
            box.courier.connect()
            await asyncio.sleep(0.003)
            box.courier.cut()
        await fetching
        assert holds(store, document, CONTENTS)

    run(scenario())


def test_ota_F10_F13_what_the_broker_has_lost_is_asked_for_and_comes_from_whoever_has_it(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)
    have = blobs(document, CONTENTS)

    async def scenario() -> None:
        box = Box(store, patience_s=0.05)
        broker = box.broker

        def serve(_device: str, need: bytes) -> None:
            for at in range(0, len(need), 32):
                sha256 = need[at : at + 32].hex()
                broker.publish(broker.ota.blob(sha256), have[sha256], retain=False)

        box.courier.connect()
        fetching = asyncio.ensure_future(box.fetch(document))
        await box.until(lambda one: one.waiting == "no_blob")
        assert broker.needs
        assert not fetching.done()
        broker.on_need = serve
        await fetching
        assert holds(store, document, CONTENTS)
        assert not broker.retained

    run(scenario())


def test_ota_F14_a_chunk_that_stays_damaged_ends_it_and_the_rest_is_kept(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)
    damaged = hashlib.sha256(CONTENTS["model.onnx"][CHUNK : 2 * CHUNK]).hexdigest()

    async def scenario() -> None:
        box = Box(store, patience_s=0.05)
        box.broker.upload(document, CONTENTS, unsigned(document))
        topic = box.broker.ota.blob(damaged)
        box.broker.tamper = lambda to, payload: bytes(CHUNK) if to == topic else payload
        box.courier.connect()
        with pytest.raises(EdgedError) as caught:
            await box.fetch(document)
        assert caught.value.fault.code == "bad_chunk"
        assert box.reports[-1].bad_chunks >= 5
        assert not (store.folder(key_of(document)) / "model.onnx").exists()
        box.broker.tamper = lambda _topic, payload: payload
        box.courier.cut()
        again = Box(store, box.broker)
        again.courier.connect()
        box.broker.delivered = 0
        await again.fetch(document)
        assert holds(store, document, CONTENTS)
        assert box.broker.delivered == 2  # the index and the one chunk

    run(scenario())


def test_ota_F11_F12_F15_F16_strangers_duplicates_and_giants_change_nothing(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)

    async def scenario() -> None:
        box = Box(store, patience_s=0.05)
        blob = box.broker.ota.blob
        box.broker.upload(document, CONTENTS, unsigned(document))

        def tamper(topic: str, payload: bytes) -> bytes:
            for noise in (b"", b"x" * 5_000_000, payload):
                box.fetcher.on_document(topic, noise)
            box.fetcher.on_document(blob("0" * 64), payload)
            box.fetcher.on_document(blob("../../etc/passwd"), payload)
            box.fetcher.on_document("edged/ota/other", payload)
            return payload

        box.broker.tamper = tamper
        box.courier.connect()
        await box.fetch(document)
        assert holds(store, document, CONTENTS)
        assert box.fetcher.unasked >= 3 * len(CONTENTS)
        assert box.reports[-1].bad_chunks > 0

    run(scenario())


def test_a_chunk_may_come_by_another_way_without_a_broker(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)
    have = blobs(document, CONTENTS)

    async def scenario() -> None:
        box = Box(store)
        assert not box.fetcher.offer("0" * 64, b"early")
        fetching = asyncio.ensure_future(box.fetch(document))
        while not fetching.done():
            for sha256 in box.fetcher.missing():
                box.fetcher.offer(sha256, have[sha256])
            box.fetcher.offer("0" * 64, b"stranger")
            await asyncio.sleep(0.001)
        await fetching
        assert holds(store, document, CONTENTS)
        assert not box.broker.needs

    run(scenario())


def test_a_chunk_that_comes_while_another_is_written_is_not_forgotten(store: Store) -> None:
    """Without a broker nothing else wakes the fetcher up: each is offered once, in its own turn of the loop."""
    document = release(CONTENTS, chunk=CHUNK)
    have = blobs(document, CONTENTS)

    async def scenario() -> None:
        box = Box(store)
        fetching = asyncio.ensure_future(box.fetch(document))
        offered: set[str] = set()
        while not fetching.done():
            for sha256 in [one for one in box.fetcher.missing() if one not in offered][:1]:
                if box.fetcher.offer(sha256, have[sha256]):
                    offered.add(sha256)
            await asyncio.sleep(0)
        await fetching
        assert holds(store, document, CONTENTS)

    run(scenario())


def test_no_more_chunks_wait_in_memory_than_a_few(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)
    have = blobs(document, CONTENTS)

    async def scenario() -> None:
        box = Box(store)
        fetching = asyncio.ensure_future(box.fetch(document))
        await box.until(lambda one: one.have == 0)
        while len(box.fetcher.missing()) < 9:
            for sha256 in box.fetcher.missing():
                box.fetcher.offer(sha256, have[sha256])
            await asyncio.sleep(0)
        taken = [box.fetcher.offer(sha256, have[sha256]) for sha256 in box.fetcher.missing()]
        assert taken.count(True) == 8
        assert not any(taken[8:])
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)

    run(scenario())


def test_while_there_is_no_connection_nobody_is_blamed(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)

    async def scenario() -> None:
        box = Box(store, patience_s=0.05)
        box.courier.connect()
        fetching = asyncio.ensure_future(box.fetch(document))
        await box.until(lambda one: one.waiting == "no_blob")
        box.courier.cut()
        await box.until(lambda one: one.waiting == "")
        assembly = box.fetcher._assembly
        assert assembly is not None
        assert assembly.wake_s(asyncio.get_running_loop().time()) is None
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        box.reports.clear()
        fetching = asyncio.ensure_future(box.fetch(document))  # nor when it begins like that
        await box.until(lambda one: one.have == 0)
        assert box.fetcher._assembly is not None
        assert box.fetcher._assembly.wake_s(asyncio.get_running_loop().time()) is None
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)

    run(scenario())


def test_one_that_is_given_up_in_a_thread_leaves_no_file_open(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    document = release(CONTENTS, chunk=CHUNK)
    entered, leave, take = threading.Event(), threading.Event(), Download._take

    def slow(download: Download, sha256: str, content: bytes) -> bool:
        entered.set()
        leave.wait(30)
        return take(download, sha256, content)

    monkeypatch.setattr(Download, "_take", slow)

    async def scenario() -> None:
        before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of names
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        box.courier.connect()
        fetching = asyncio.ensure_future(box.fetch(document))
        await asyncio.to_thread(entered.wait, 30)
        fetching.cancel()
        await asyncio.sleep(0)
        assert not fetching.done()  # it waits for the thread
        leave.set()
        await asyncio.gather(fetching, return_exceptions=True)
        assert fetching.cancelled()
        assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208

    run(scenario())


def test_chunks_of_other_releases_are_copied_and_whole_files_shared(store: Store) -> None:
    old, new = release(CONTENTS, chunk=CHUNK), None
    changed = CONTENTS | {"model.onnx": CONTENTS["model.onnx"][: 8 * CHUNK] + bytes(3 * CHUNK)}
    new = release(changed, version=3, chunk=CHUNK)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(old, CONTENTS, unsigned(old))
        box.broker.upload(new, changed, unsigned(new))
        box.courier.connect()
        await box.fetch(old)
        box.broker.delivered = 0
        await box.fetch(new)
        assert holds(store, new, changed)
        assert holds(store, old, CONTENTS)
        assert box.reports[-1].reused == 8 + 1
        assert box.broker.delivered == 2  # the index, and the one chunk that lies there three times
        assert (store.folder(key_of(old)) / "labels.txt").samefile(store.folder(key_of(new)) / "labels.txt")

    run(scenario())


def test_ota_F32_a_download_that_was_given_up_lends_its_chunks_to_the_next(store: Store) -> None:
    first = release(CONTENTS, chunk=CHUNK)
    second = release(CONTENTS, version=3, chunk=CHUNK)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(first, CONTENTS, unsigned(first))
        box.broker.tamper = lambda _topic, payload: payload if box.broker.delivered < 8 else None
        box.courier.connect()
        fetching = asyncio.ensure_future(box.fetch(first))
        await box.until(lambda one: one.have >= 7 * CHUNK)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        box.broker.tamper = lambda _topic, payload: payload
        await box.fetch(second)
        assert holds(store, second, CONTENTS)
        assert box.reports[-1].reused >= 6

    run(scenario())


def test_ota_F49_a_stale_chunk_of_another_model_is_never_asked_for(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        for number in range(50):
            stale = bytes([number]) * CHUNK
            box.broker.publish(box.broker.ota.blob(hashlib.sha256(stale).hexdigest()), stale)
        box.courier.connect()
        await box.fetch(document)
        assert box.broker.delivered == len(blobs(document, CONTENTS)) - 1  # a file of one chunk needs no index

    run(scenario())


def test_the_factory_model_lends_its_chunks_and_is_never_linked_to(store: Store, tmp_path: Path) -> None:
    document = release(CONTENTS, chunk=CHUNK)
    factory = tmp_path / "factory.onnx"
    factory.write_bytes(CONTENTS["model.onnx"])
    (tmp_path / "link.onnx").symlink_to(factory)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        box.courier.connect()
        lenders = [tmp_path / "link.onnx", tmp_path / "gone.onnx", tmp_path]
        await box.fetcher.files(key_of(document), unsigned(document), document, box.report, lenders=lenders)
        assert holds(store, document, CONTENTS)
        assert box.reports[-1].reused == document.files["model.onnx"].count
        assert box.broker.delivered == 2  # the model's index, and the other file
        assert factory.stat().st_nlink == 1

    run(scenario())


@pytest.mark.parametrize("contents", [{"model.onnx": b""}, {"model.onnx": b"x"}, {"model.onnx": b"x" * CHUNK}])
def test_the_smallest_files(store: Store, contents: dict[str, bytes]) -> None:
    document = release(contents, chunk=CHUNK)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, contents, unsigned(document))
        box.courier.connect()
        await box.fetch(document)
        assert holds(store, document, contents)

    run(scenario())


# --- the release lies -------------------------------------------------------------------------------------


def test_an_index_that_gives_another_file_is_refused(store: Store) -> None:
    honest = release(CONTENTS, chunk=CHUNK)
    file = honest.files["model.onnx"]
    liar = release(CONTENTS, chunk=CHUNK)
    liar.files["model.onnx"] = type(file)(file.size, "1" * 64, file.index, file.chunk)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(honest, CONTENTS, unsigned(honest))
        box.courier.connect()
        with pytest.raises(EdgedError) as caught:
            await box.fetch(liar)
        assert caught.value.fault.code == "bad_document"
        assert not (store.folder(key_of(liar)) / "model.onnx").exists()

    run(scenario())


def test_ota_F46_a_chunk_never_reaches_past_its_place(store: Store) -> None:
    contents = {"model.onnx": bytes(2 * CHUNK) + b"short"}
    document = release(contents, chunk=CHUNK)
    file = document.files["model.onnx"]
    document.files["model.onnx"] = type(file)(3 * CHUNK, file.sha256, file.index, file.chunk)  # the last one is longer

    async def scenario() -> None:
        box = Box(store, patience_s=0.05)
        box.broker.upload(release(contents, chunk=CHUNK), contents, unsigned(document))
        box.courier.connect()
        with pytest.raises(EdgedError):
            await box.fetch(document)
        assert box.reports[-1].bad_chunks

    run(scenario())


def test_a_chunk_that_is_longer_than_its_place_is_not_even_taken_from_the_disk(store: Store) -> None:
    block = CONTENTS["model.onnx"][:CHUNK]
    index = hashlib.sha256(b"first").digest() + hashlib.sha256(block).digest()
    liar = release({"model.onnx": bytes(CHUNK + 5)}, chunk=CHUNK)
    file = liar.files["model.onnx"]
    liar.files["model.onnx"] = type(file)(file.size, file.sha256, hashlib.sha256(index).hexdigest(), CHUNK)
    store.folder(store.stage(block))  # a file that has it

    async def scenario() -> None:
        box = Box(store)
        box.broker.publish(box.broker.ota.blob(hashlib.sha256(index).hexdigest()), index)
        box.courier.connect()
        with pytest.raises(EdgedError) as caught:
            await box.fetch(liar)
        assert caught.value.fault.code == "bad_document"

    run(scenario())


def test_an_envelope_under_another_key_is_refused(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)

    async def scenario() -> None:
        with pytest.raises(EdgedError) as caught:
            await Box(store).fetcher.files("0" * 64, unsigned(document), document)
        assert caught.value.fault.code == "bad_document"

    run(scenario())


# --- the disk ---------------------------------------------------------------------------------------------


def test_ota_F30_a_disk_that_fails_ends_the_download_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    document = release(CONTENTS, chunk=CHUNK)

    whole = os.pwrite

    def fails(descriptor: int, content: bytes, offset: int) -> int:
        if offset == 3 * CHUNK:
            raise OSError(errno.EIO, "the disk is gone")
        return whole(descriptor, content, offset)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        box.courier.connect()
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", fails)
            with pytest.raises(EdgedError) as caught:
                await box.fetch(document)
        assert caught.value.fault.code == "bad_store"
        assert caught.value.fault.message.endswith(" bytes cannot be kept: the disk is gone")
        assert not list(store.folder(key_of(document)).glob(".*.part"))  # nobody would believe it
        await box.fetch(document)
        assert holds(store, document, CONTENTS)

    run(scenario())


def test_a_file_that_cannot_get_its_name_ends_the_download_and_closes_nothing_twice(store: Store) -> None:
    """The one before it has its name by then, and its descriptor may be somebody else's already."""
    document = release(CONTENTS, chunk=CHUNK)
    in_its_way = store.folder(key_of(document)) / "labels.txt"

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        box.courier.connect()
        in_its_way.mkdir(parents=True)
        with pytest.raises(EdgedError) as caught:
            await box.fetch(document)
        assert caught.value.fault.code == "bad_store"
        in_its_way.rmdir()
        await box.fetch(document)
        assert holds(store, document, CONTENTS)

    run(scenario())


def test_ota_F29_a_limit_on_files_is_no_space_at_once_and_takes_nothing(store: Store) -> None:
    document = release(CONTENTS, chunk=CHUNK)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        box.courier.connect()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 * CHUNK, hard))
        try:
            with pytest.raises(EdgedError) as caught:
                await box.fetch(document)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.fault.code == "no_space"
        assert caught.value.fault.message.endswith(f" bytes find no room: {os.strerror(errno.EFBIG)}")
        assert box.broker.delivered == 0
        assert not list(store.folder(key_of(document)).glob("*.part"))
        await box.fetch(document)
        assert holds(store, document, CONTENTS)

    run(scenario())


def test_ota_F45_a_name_that_leads_elsewhere_is_refused(store: Store, tmp_path: Path) -> None:
    document = release(CONTENTS, chunk=CHUNK)
    document.files["../../../escaped"] = document.files["labels.txt"]  # read_release refuses it before

    async def scenario() -> None:
        with pytest.raises(EdgedError) as caught:
            await Box(store).fetch(document)
        assert caught.value.fault.code == "bad_document"

    run(scenario())
    assert not list(tmp_path.rglob("*escaped*"))


def test_ota_F45_a_symbolic_link_in_the_way_is_not_followed(store: Store, tmp_path: Path) -> None:
    document = release(CONTENTS, chunk=CHUNK)
    folder, target = store.folder(key_of(document)), tmp_path / "target"
    folder.mkdir()
    target.write_bytes(b"precious")
    for name in (".model.onnx.part", ".release.json.tmp"):
        (folder / name).symlink_to(target)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        box.courier.connect()
        with pytest.raises(EdgedError) as caught:
            await box.fetch(document)
        assert caught.value.fault.code == "bad_store"
        assert target.read_bytes() == b"precious"

    run(scenario())


def test_short_writes_are_finished(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    document = release(CONTENTS, chunk=CHUNK)
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, view, at: whole(descriptor, view[:100], at))

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        box.courier.connect()
        await box.fetch(document)
        assert holds(store, document, CONTENTS)

    run(scenario())


def test_what_the_disk_loses_while_it_is_written_is_fetched_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = release(CONTENTS, chunk=CHUNK)
    finish = Download.finish
    losses: list[int] = []

    def lossy(download: Download) -> bool:
        if not losses:
            losses.append(os.pwrite(download._parts[0].descriptor, b"flipped", 3 * CHUNK))
        return finish(download)

    monkeypatch.setattr(Download, "finish", lossy)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        box.courier.connect()
        await box.fetch(document)
        assert holds(store, document, CONTENTS)
        assert box.broker.delivered == len(blobs(document, CONTENTS)) - 1 + 1

    run(scenario())


def test_each_step_is_durable_before_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    document, steps = release(CONTENTS, chunk=CHUNK), list[str]()
    folder = store.folder(key_of(document))

    def note(what: str, path: Path) -> None:
        name = "releases" if path == folder.parent else "folder" if path == folder else path.name
        if name in ("releases", "folder") or path.parent == folder:
            steps.append(f"{what} {name}")

    def spy(name: str) -> None:
        whole = getattr(os, name)

        def spied(descriptor: int, *rest: object) -> object:
            note(name, Path(f"/proc/self/fd/{descriptor}").readlink())
            return whole(descriptor, *rest)

        monkeypatch.setattr(os, name, spied)

    for name in ("fsync", "posix_fallocate", "pwrite"):
        spy(name)
    rename = Path.replace

    def renamed(path: Path, to: Path) -> Path:
        note("rename", to)
        return rename(path, to)

    monkeypatch.setattr(Path, "replace", renamed)

    async def scenario() -> None:
        box = Box(store)
        box.broker.upload(document, CONTENTS, unsigned(document))
        box.courier.connect()
        await box.fetch(document)

    run(scenario())
    once = list(dict.fromkeys(steps))
    envelope = [".release.json.tmp", "release.json"]
    assert once[:5] == [
        f"posix_fallocate {envelope[0]}",
        f"pwrite {envelope[0]}",
        f"fsync {envelope[0]}",
        f"rename {envelope[1]}",
        "fsync folder",
    ]
    assert once[5:8] == ["fsync releases", "posix_fallocate .model.onnx.part", "posix_fallocate .labels.txt.part"]
    for file in CONTENTS:
        order = [f"pwrite .{file}.part", f"fsync .{file}.part", f"rename {file}"]
        assert [step for step in once if file in step][1:] == order
    assert steps[-2:] == ["fsync folder", "fsync releases"]
