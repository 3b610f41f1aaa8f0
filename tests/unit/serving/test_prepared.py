"""The cache of prepared models: what is made, kept, doubted and removed. `prepare` writes as a worker does."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.errors import EdgedError
from edged.serving.prepared import SMALLEST, PreparedModels, fingerprint
from edged.worker.prepared import largest_prepared


class Bench:
    """A cache, a model file, and how often a form of it was made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "given.onnx"
        self.made = 0
        self.models = self.again()
        self.write(b"m" * SMALLEST)

    def write(self, content: bytes) -> None:
        self.file.write_bytes(content)
        self.sha256 = hashlib.sha256(content).hexdigest()

    def again(self, depends_on: str = "here") -> PreparedModels:
        """The cache as the next start of the daemon finds it."""
        return PreparedModels(self.folder / "cache", depends_on=depends_on)

    async def prepare(self, folder: Path) -> None:
        self.made += 1
        (folder / "model.onnx").write_bytes(b"optimised")
        (folder / "weights.bin").write_bytes(b"packed" * 1000)

    def path(self, prepare: Callable[[Path], object] | None = None) -> str:
        async def made(folder: Path) -> None:
            await self.prepare(folder)
            if prepare is not None:
                prepare(folder)

        return asyncio.run(self.models.path(self.sha256, str(self.file), made))

    def entries(self) -> list[str]:
        return sorted(entry.name for entry in (self.folder / "cache" / "prepared").glob("*"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_it_is_made_once_and_found_from_then_on(bench: Bench) -> None:
    path = bench.path()
    assert Path(path).read_bytes() == b"optimised"
    assert (bench.path(), bench.made) == (path, 1)
    bench.models = bench.again()
    assert (bench.path(), bench.made) == (path, 1)
    assert {file.stat().st_mode & 0o777 for file in Path(path).parent.iterdir()} == {0o440}
    assert bench.entries() == [f"{bench.sha256}-here"]
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=Path(path).parent, check=True, capture_output=True)


def test_another_onnxruntime_or_cpu_makes_its_own(bench: Bench) -> None:
    bench.path()
    bench.models = bench.again("there")
    assert "-there/" in bench.path()
    assert (bench.made, bench.entries()) == (2, [f"{bench.sha256}-there"])
    assert len(fingerprint()) == 16
    bench.models = bench.again("")  # which onnxruntime this is cannot be told
    assert (bench.path(), bench.made) == ("", 2)


HARM: dict[str, Callable[[bytes], bytes]] = {
    "flip": lambda content: b"X" + content[1:],
    "cut": lambda content: content[: len(content) // 2],
    "rubbish": lambda _: b"\xff",
}


@pytest.mark.parametrize("when", ["running", "restarted"])
@pytest.mark.parametrize("harm", [*HARM, "remove"])
@pytest.mark.parametrize("name", ["model.onnx", "weights.bin", "SHA256SUMS"])
def test_what_is_damaged_is_made_anew(bench: Bench, name: str, harm: str, when: str) -> None:
    damaged = Path(bench.path()).parent / name
    content = damaged.read_bytes()
    damaged.unlink()
    if harm != "remove":
        damaged.write_bytes(HARM[harm](content))
    if when == "restarted":
        bench.models = bench.again()
    assert Path(bench.path()).read_bytes() == b"optimised"
    if name != "SHA256SUMS" or when == "restarted":  # files that are as they were seen are not read again
        assert bench.made == 2


def test_a_small_model_is_left_alone(bench: Bench) -> None:
    bench.write(b"m" * (SMALLEST - 1))
    assert (bench.path(), bench.made) == ("", 0)


def test_a_model_without_a_hash_is_left_alone(bench: Bench) -> None:
    bench.sha256 = ""
    assert (bench.path(), bench.made) == ("", 0)


def test_what_cannot_be_prepared_is_not_tried_again(bench: Bench) -> None:
    def fail(folder: Path) -> None:
        raise EdgedError("over_memory", "too much")

    assert bench.path(fail) == ""
    assert (bench.path(), bench.made, bench.entries()) == ("", 1, [])
    bench.models = bench.again()
    assert bench.path()


def test_what_could_not_be_loaded_is_gone(bench: Bench) -> None:
    bench.path()
    asyncio.run(bench.models.distrust(bench.sha256))
    assert (bench.path(), bench.made, bench.entries()) == ("", 1, [])


@pytest.mark.parametrize(
    "trick",
    [
        lambda folder: (folder / "weights.bin").unlink() or (folder / "weights.bin").symlink_to("/etc/hostname"),
        lambda folder: (folder / "weights.bin").unlink() or (folder / "weights.bin").symlink_to(folder / "new"),
        lambda folder: (folder / "second").hardlink_to(folder / "weights.bin"),
        lambda folder: (folder / "weights.bin").unlink() or (folder / "weights.bin").mkdir(),
        lambda folder: os.truncate(folder / "weights.bin", largest_prepared(SMALLEST) + 1),
    ],
    ids=["link", "dangling", "hard link", "folder", "huge"],
)
def test_what_a_worker_must_not_leave_is_refused(bench: Bench, trick: Callable[[Path], object]) -> None:
    assert bench.path(trick) == ""
    assert bench.entries() == []


def test_a_file_that_changes_meanwhile_is_not_taken_for_another(bench: Bench) -> None:
    """Else going back to the first content would load what was made of the second."""
    assert bench.path(lambda _: bench.file.write_bytes(b"n" * SMALLEST)) == ""
    assert bench.entries() == []
    bench.models = bench.again()
    assert bench.path() == ""  # its hash is not what we are told


def test_only_what_is_in_use_is_kept(bench: Bench) -> None:
    first = bench.sha256
    bench.path()
    bench.models.in_use = lambda: frozenset({first})
    bench.write(b"n" * SMALLEST)
    bench.path()
    assert len(bench.entries()) == 2
    bench.models.in_use = frozenset
    bench.write(b"o" * SMALLEST)
    bench.path()
    assert bench.entries() == [f"{bench.sha256}-here"]
    stray = bench.folder / "cache" / "prepared" / "left.tmp"
    stray.mkdir()
    bench.models.prune(frozenset())
    assert bench.entries() == []


def test_what_is_there_or_not_to_be_had_does_not_wait_for_another_to_be_made(bench: Bench) -> None:
    """A model that crashed must come back at once, whatever is being tried meanwhile."""
    known = (bench.sha256, str(bench.file))
    path = bench.path()
    small = bench.folder / "small.onnx"
    small.write_bytes(b"small")
    large = bench.folder / "large.onnx"
    large.write_bytes(b"l" * SMALLEST)

    async def scenario() -> None:
        go, begun = asyncio.Event(), asyncio.Event()

        async def slowly(folder: Path) -> None:
            begun.set()
            await go.wait()
            await bench.prepare(folder)

        sha256 = hashlib.sha256(large.read_bytes()).hexdigest()
        making = [asyncio.create_task(bench.models.path(sha256, str(large), slowly)) for _ in range(2)]
        async with asyncio.timeout(30):
            await begun.wait()
            assert await bench.models.path(*known, bench.prepare) == path
            assert await bench.models.path("5" * 64, str(small), bench.prepare) == ""
            go.set()
            first, second = await asyncio.gather(*making)
        assert first == second != ""

    bench.models = bench.again()
    asyncio.run(scenario())
    assert bench.made == 2


def test_a_full_disk_and_one_that_cannot_be_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    assert (bench.path(), bench.made) == ("", 0)
    monkeypatch.undo()

    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert bench.path(full) == ""
    (bench.folder / "other").write_text("a file in its place")
    bench.models = PreparedModels(bench.folder / "other", depends_on="here")
    assert bench.path() == ""
    bench.models.prune(frozenset())
