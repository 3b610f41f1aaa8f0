"""How the commands write sizes, durations and columns."""

from __future__ import annotations

import pytest

from edged.cli.words import columns, duration, left, plain, size


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (8_493_465, "8.1 MiB"), (2**30 * 150, "150 GiB"),
     (2**40 * 3, "3.0 TiB")],
)  # fmt: skip
def test_size(count: float | None, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.5, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (11100, "3 h 05 min"), (90000, "1 d 1 h")],
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("left_s", "most_s", "shown"),
    [(42, 420, "42 s left"), (0.4, None, "1 s left"), (0, 540, "waits for runs, 9 min at most"),
     (0, None, "waits for runs")],
)  # fmt: skip
def test_a_probation_whose_time_is_over_waits_for_runs(left_s: float, most_s: float | None, shown: str) -> None:
    assert left(left_s, most_s) == shown


def test_columns_align_and_leave_no_trailing_space() -> None:
    assert columns([("a", "1", "x"), ("bcd", "20", "")], right=frozenset({1})) == ["a     1  x", "bcd  20"]


def test_plain_is_one_line_that_no_terminal_obeys() -> None:
    assert plain("a\x1b[31m\nb\t") == "a [31m b"
