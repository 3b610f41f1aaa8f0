"""observe.clock: what counts as a clock that nobody has set."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.observe import clock


class Libc:
    """adjtimex(2) with a maximum error in microseconds; below 0: forbidden."""

    def __init__(self, maxerror: int) -> None:
        self.maxerror = maxerror
        self.asked = 0

    def adjtimex(self, timex: object) -> int:
        self.asked += 1
        timex[24:32] = max(self.maxerror, 0).to_bytes(8, "little")  # type: ignore[index]
        return -1 if self.maxerror < 0 else 0


@pytest.mark.parametrize(("maxerror", "synced"), [(500_000, True), (15_999_999, True), (16_000_000, False)])
def test_the_kernels_word(monkeypatch: pytest.MonkeyPatch, maxerror: int, synced: bool) -> None:
    libc = Libc(maxerror)
    monkeypatch.setattr(clock, "_libc", libc)
    wall = clock.WallClock()
    assert [wall.synced(), wall.synced()] == [synced, synced]
    assert libc.asked == 1


@pytest.mark.parametrize(("folder", "mark", "synced"), [(False, False, True), (True, False, False), (True, True, True)])
def test_where_asking_is_forbidden_timesyncd_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: bool, mark: bool, synced: bool
) -> None:
    timesync = tmp_path / "timesync"
    if folder:
        timesync.mkdir()
    if mark:
        (timesync / "synchronized").touch()
    monkeypatch.setattr(clock, "_libc", Libc(-1))
    monkeypatch.setattr(clock, "_TIMESYNCD", timesync)
    assert clock.WallClock().synced() is synced


def test_a_year_before_edged_is_never_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_libc", Libc(0))
    monkeypatch.setattr("edged.observe.clock.time.time", lambda: 1000.0)
    assert not clock.WallClock().synced()


def test_this_kernel_answers() -> None:
    assert clock.WallClock().synced() in (True, False)
