"""Shared memory as clients register it: what is opened, what is refused, and what a file that changes does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.errors import EdgedError
from edged.oip.regions import LARGEST, MOST, Listed, Regions

DATA = bytes(range(100))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """It plays /dev/shm."""
    (tmp_path / "shm").mkdir()
    (tmp_path / "shm" / "data").write_bytes(DATA)
    (tmp_path / "secret").write_bytes(DATA)
    return tmp_path / "shm"


@pytest.fixture
def regions(folder: Path) -> Regions:
    return Regions(str(folder))


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def refused(code: str, what: Callable[[], object]) -> str:
    with pytest.raises(EdgedError) as found:
        what()
    assert found.value.fault.code == code
    return found.value.fault.message


@pytest.mark.parametrize("key", ["data", "/data"])
def test_a_region_is_read_and_written_within_its_part(regions: Regions, folder: Path, key: str) -> None:
    regions.register("r", key, 10, 50)
    assert regions.listed() == regions.listed("r") == [Listed("r", key, 10, 50)]
    window = regions.window("r", 5, 20, write=True)
    assert window.read() == DATA[15:35]
    window.write(b"abc")
    window.close()
    assert (folder / "data").read_bytes() == DATA[:15] + b"abc" + DATA[18:]
    regions.unregister()
    assert len(regions) == 0


@pytest.mark.parametrize(
    "key", ["", "/", ".", "..", "/..", "../secret", "a/b", "//data", "a\0b", "x" * 300, "\udc80" * 200]
)
def test_a_key_is_a_plain_name(regions: Regions, key: str) -> None:
    assert "no key" in refused("bad_input", lambda: regions.register("r", key, 0, 1))
    assert len(regions) == 0


def test_only_files_are_opened(regions: Regions, folder: Path) -> None:
    """No way out by a link, and nothing that would block."""
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "inner").mkdir()
    os.mkfifo(folder / "pipe")
    for key in ("link", "inner", "pipe"):
        refused("bad_input", lambda key=key: regions.register("r", key, 0, 1))  # type: ignore[misc]
    refused("not_found", lambda: regions.register("r", "nothing", 0, 1))
    assert len(regions) == 0


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 101), (100, 1), (-1, 5), (0, 0), (0, -1), (0, LARGEST + 1), (2**70, 1)]
)
def test_a_region_lies_in_its_file(regions: Regions, offset: int, size: int) -> None:
    refused("bad_input", lambda: regions.register("r", "data", offset, size))


@pytest.mark.parametrize(("offset", "size"), [(0, 51), (50, 1), (-1, 5), (0, -1), (2**62, 2**62)])
def test_a_window_lies_in_its_region(regions: Regions, offset: int, size: int) -> None:
    regions.register("r", "data", 0, 50)
    refused("bad_input", lambda: regions.window("r", offset, size, write=False))
    refused("bad_input", lambda: regions.window("s", 0, 1, write=False))


def test_what_a_client_says(regions: Regions) -> None:
    regions.take("r", {"key": "data", "byte_size": 8})
    assert regions.listed() == [Listed("r", "data", 0, 8)]
    for said in ({}, {"key": "data"}, {"key": 1, "byte_size": 8}, {"key": "data", "byte_size": 8.0, "offset": 0}):
        refused("bad_input", lambda said=said: regions.take("s", said))  # type: ignore[misc]
    refused("bad_input", lambda: regions.take("s", {"key": "data", "byte_size": True}))


def test_a_name_is_taken_once(regions: Regions) -> None:
    regions.register("r", "data", 0, 8)
    assert "already" in refused("bad_input", lambda: regions.register("r", "data", 0, 8))
    refused("bad_input", lambda: regions.register("", "data", 0, 8))
    refused("bad_input", lambda: regions.register("x" * 129, "data", 0, 8))
    regions.unregister("nobody")  # as with Triton, whatever is not there is gone
    refused("not_found", lambda: regions.listed("nobody"))


def test_a_file_that_became_shorter_is_an_error_and_does_not_grow(regions: Regions, folder: Path) -> None:
    regions.register("r", "data", 0, 100)
    window = regions.window("r", 50, 50, write=True)
    os.truncate(folder / "data", 60)
    assert "shorter" in refused("bad_input", window.read)
    assert "shorter" in refused("bad_input", lambda: window.write(bytes(50)))
    assert (folder / "data").stat().st_size == 60
    window.close()


def test_an_output_that_does_not_fit(regions: Regions) -> None:
    regions.register("r", "data", 0, 100)
    window = regions.window("r", 0, 4, write=True)
    refused("output_too_large", lambda: window.write(bytes(5)))
    window.close()


def test_a_region_that_is_forgotten_stays_open_for_who_uses_it(regions: Regions, folder: Path) -> None:
    before = descriptors()
    regions.register("r", "data", 0, 100)
    window = regions.window("r", 0, 100, write=True)
    regions.unregister("r")
    (folder / "data").unlink()
    assert window.read() == DATA
    assert descriptors() == before + 1
    window.close()
    assert descriptors() == before


def test_there_are_so_many_and_no_more_and_those_of_the_dead_make_room(regions: Regions, folder: Path) -> None:
    before = descriptors()
    for number in range(MOST):
        (folder / f"of-{number}").write_bytes(DATA)
        regions.register(f"r{number}", f"of-{number}", 0, 8)
    refused("queue_full", lambda: regions.register("more", "data", 0, 8))
    (folder / "of-3").unlink()
    regions.register("more", "data", 0, 8)
    assert len(regions) == MOST
    refused("not_found", lambda: regions.listed("r3"))
    regions.unregister()
    assert descriptors() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read what is somebody else's")
def test_root_reads_for_nobody_what_they_may_not(regions: Regions, folder: Path) -> None:
    os.chown(folder / "data", 12345, 12345)
    (folder / "data").chmod(0o600)
    refused("forbidden", lambda: regions.register("r", "data", 0, 8))
    (folder / "data").chmod(0o606)
    regions.register("r", "data", 0, 8)
    regions.unregister()


def test_what_may_only_be_read_takes_no_output(regions: Regions, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def readable(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(13, "no")
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", readable)
    regions.register("r", "data", 0, 8)
    window = regions.window("r", 0, 8, write=False)
    assert window.read() == DATA[:8]
    window.close()
    refused("bad_input", lambda: regions.window("r", 0, 8, write=True))
    regions.unregister()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may write what its owner keeps for itself")
def test_root_writes_nothing_that_others_may_only_read(regions: Regions, folder: Path) -> None:
    os.chown(folder / "data", 12345, 12345)
    (folder / "data").chmod(0o644)
    regions.register("r", "data", 0, 100)
    regions.window("r", 0, 10, write=False).close()
    refused("bad_input", lambda: regions.window("r", 0, 10, write=True))
