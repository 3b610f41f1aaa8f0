"""delivery.windows: when a pushed model may begin, also in the nights in which clocks are changed."""

from __future__ import annotations

import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.hours import DAY_MIN, Hours, Install, install
from edged.delivery.windows import is_open, opens_ms

BERLIN = ZoneInfo("Europe/Berlin")  # 2026: 29 March 02:00 -> 03:00, 25 October 03:00 -> 02:00
NIGHT = install(["02:00-04:00"])
OVER_MIDNIGHT = install(["22:00-05:00"])


def at(text: str, *, fold: int = 0) -> int:
    """`2026-06-01 02:00` of Berlin, in ms since 1970."""
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp() * 1000)


def told(ms: int | None) -> str:
    """The same backwards, with the offset from UTC."""
    return "" if ms is None else f"{datetime.fromtimestamp(ms / 1000, tz=BERLIN):%m-%d %H:%M %z}"


def test_auto_is_always_and_manual_is_never() -> None:
    assert is_open("auto", 0, BERLIN)
    assert opens_ms("auto", 5, BERLIN) == 5
    assert not is_open("manual", 0, BERLIN)
    assert opens_ms("manual", 0, BERLIN) is None


@pytest.mark.parametrize(
    ("when", "hours", "opened"),
    [
        ("2026-06-01 01:59", NIGHT, False),
        ("2026-06-01 02:00", NIGHT, True),
        ("2026-06-01 03:59:59.999", NIGHT, True),
        ("2026-06-01 04:00", NIGHT, False),
        ("2026-06-01 21:59", OVER_MIDNIGHT, False),
        ("2026-06-01 23:59", OVER_MIDNIGHT, True),
        ("2026-06-02 00:00", OVER_MIDNIGHT, True),
        ("2026-06-02 05:00", OVER_MIDNIGHT, False),
        ("2026-06-01 12:10", install(["12:00-12:30", "02:00-04:00"]), True),
        ("2026-06-01 03:10", install(["12:00-12:30", "02:00-04:00"]), True),
        ("2026-06-01 23:59", install(["22:00-24:00"]), True),
        ("2026-06-02 00:00", install(["22:00-24:00"]), False),
        ("2026-06-02 00:00", install(["00:00-24:00"]), True),
    ],
)
def test_the_hours_hold_from_their_first_minute_to_before_their_last(when: str, hours: Install, opened: bool) -> None:
    assert is_open(hours, at(when), BERLIN) is opened


@pytest.mark.parametrize(
    ("when", "hours", "opening"),
    [
        ("2026-06-01 01:00", NIGHT, "06-01 02:00 +0200"),
        ("2026-06-01 04:00", NIGHT, "06-02 02:00 +0200"),
        ("2026-06-01 05:00", OVER_MIDNIGHT, "06-01 22:00 +0200"),
        ("2026-06-01 13:00", install(["12:00-12:30", "02:00-04:00"]), "06-02 02:00 +0200"),
        # The night without 02:00 to 03:00: what is left of the hours begins when the clock has jumped.
        ("2026-03-29 01:30", NIGHT, "03-29 03:00 +0200"),
        ("2026-03-29 01:30", install(["02:30-03:30"]), "03-29 03:00 +0200"),
        # Nothing is left of them: the night after.
        ("2026-03-29 01:30", install(["02:15-02:45"]), "03-30 02:15 +0200"),
        # The day before is still reckoned by its own offset.
        ("2026-03-28 20:00", install(["05:00-06:00"]), "03-29 05:00 +0200"),
        # The night with 02:00 to 03:00 twice: they come twice.
        ("2026-10-25 01:30", install(["02:15-02:45"]), "10-25 02:15 +0200"),
        ("2026-10-24 20:00", install(["05:00-06:00"]), "10-25 05:00 +0100"),
    ],
)
def test_when_next(when: str, hours: Install, opening: str) -> None:
    assert told(opens_ms(hours, at(when), BERLIN)) == opening


def test_the_hour_that_comes_twice_opens_twice() -> None:
    hours = install(["02:15-02:45"])
    assert is_open(hours, at("2026-10-25 02:30"), BERLIN)
    assert is_open(hours, at("2026-10-25 02:30", fold=1), BERLIN)
    assert told(opens_ms(hours, at("2026-10-25 02:50"), BERLIN)) == "10-25 02:15 +0100"
    assert told(opens_ms(hours, at("2026-10-25 02:50", fold=1), BERLIN)) == "10-26 02:15 +0100"


@given(
    st.lists(
        st.tuples(st.integers(0, DAY_MIN - 1), st.integers(0, DAY_MIN)).filter(lambda one: one[0] != one[1]),
        min_size=1,
        max_size=3,
    ),
    # Around both changes of the clock, and any day.
    st.one_of(
        st.integers(at("2026-03-28 00:00"), at("2026-03-30 00:00")),
        st.integers(at("2026-10-24 00:00"), at("2026-10-26 00:00")),
        st.integers(at("2026-01-01 00:00"), at("2027-01-01 00:00")),
    ),
)
def test_the_next_opening_is_the_first_minute_that_is_open(hours: list[tuple[int, int]], now: int) -> None:
    """Compared with looking at each minute that follows."""
    written = install([str(Hours(*one)) for one in hours])
    found = opens_ms(written, now, BERLIN)
    if is_open(written, now, BERLIN):
        assert found == now
        return
    minute = now - now % 60_000
    first = next(
        moment for moment in range(minute + 60_000, minute + 3 * 86_400_000, 60_000) if is_open(written, moment, BERLIN)
    )
    assert found == first


def test_the_box_s_own_zone_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the daemon passes; its rules for summer time are the C library's."""
    for name, when in (("Europe/Berlin", at("2026-03-29 01:30")), ("UTC", at("2026-06-01 01:30"))):
        monkeypatch.setenv("TZ", name)
        time.tzset()
        assert opens_ms(NIGHT, when) == opens_ms(NIGHT, when, ZoneInfo(name))
        assert is_open(NIGHT, when) is is_open(NIGHT, when, ZoneInfo(name))
    monkeypatch.undo()
    time.tzset()
