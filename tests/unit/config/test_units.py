"""config.units: quantities as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.mistakes import Refusal
from edged.config.units import Duration, Factor, Percent, Rate, Size, spelled


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("60s", 60),
        ("1h", 3600),
        ("2min", 120),
        ("7d", 604_800),
        ("250us", 0.00025),
        ("1.5 s", 1.5),
        (0, 0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert Duration.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"), [("64KiB", 65_536), ("16MiB", 2**24), ("1GB", 10**9), ("1kB", 1000), ("10B", 10), (0, 0)]
)
def test_sizes(text: object, size: int) -> None:
    assert Size.parse(text) == size


def test_ratios_and_factors() -> None:
    assert Percent.parse("1%") == pytest.approx(0.01)
    assert Percent.parse("100%") == Percent(1)
    assert Factor.parse("3x") == Factor(3)
    assert Factor.parse("1.5x") == Factor(1.5)


@pytest.mark.parametrize(("text", "a_second"), [("50/s", 50), ("90/min", 1.5), ("6/h", 1 / 600), ("0.5 /s", 0.5)])
def test_rates(text: str, a_second: float) -> None:
    rate = Rate.parse(text)
    assert rate == pytest.approx(a_second)
    assert Rate.parse(spelled(rate)) == pytest.approx(rate)


@pytest.mark.parametrize("kind", [Duration, Size, Percent, Factor, Rate])
@pytest.mark.parametrize(
    "bad", ["", "1", 1, "-1s", "s", "1 parsec", True, False, None, [], "1e400s", "inf", "nan%", "1,5s"]
)
def test_what_is_no_quantity_is_refused(kind: type[Duration], bad: object) -> None:
    with pytest.raises(Refusal):
        kind.parse(bad)


def test_a_ratio_above_one_is_refused() -> None:
    with pytest.raises(Refusal, match="100%"):
        Percent.parse("101%")


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none())
def test_anything_is_a_finite_quantity_or_refused(value: object) -> None:
    for kind in (Duration, Size, Percent, Factor, Rate):
        try:
            quantity = kind.parse(value)
        except Refusal:
            continue
        assert math.isfinite(quantity)
        assert quantity >= 0


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "h", "d"]))
def test_what_is_spelled_is_read_back(count: int, unit: str) -> None:
    duration = Duration.parse(f"{count}{unit}")
    assert Duration.parse(spelled(duration)) == pytest.approx(duration)
