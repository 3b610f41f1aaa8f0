"""What lies on the disk: order, bounds, what is done, and what comes again after a loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.transports.mqtt.records import Moment, Record
from edged.transports.mqtt.stock import FIRST, PARTS, Fate, Part, Stock, fate

NOW = Moment("boot", 100.0, 0)
DAY_S = 86_400.0


def put(stock: Stock, size: int = 10, now: Moment = NOW) -> int:
    """Files one message; returns its serial number, 0 when it found no room."""
    if stock.room(size) is None:
        return 0
    first, _ = stock.where(size)
    stock.filed(first, 1, size, now)
    part = stock.parts[-1]
    return part.first + part.count - 1


def read(stock: Stock) -> list[int]:
    """Reads all that is left to read."""
    found = []
    while (where := stock.next()) is not None:
        part, number = where
        found += [one for one in stock.read(part, part.count - number) if one]
    return found


@given(st.lists(st.tuples(st.sampled_from(["put", "read", "done", "lose"]), st.integers(0, 200)), max_size=80))
def test_each_message_is_read_in_order_until_it_is_done(steps: list[tuple[str, int]]) -> None:
    stock = Stock(10_000)
    filed: list[int] = []
    done: set[int] = set()
    out: list[int] = []  # under way
    for step, number in steps:
        match step:
            case "put":
                filed.append(put(stock, 50 + number))
            case "read":
                out += read(stock)
            case "done" if out:
                one = out.pop(number % len(out))
                stock.finish(one)
                done.add(one)
            case "lose":
                stock.rewind()
                out = []
        stock.gone(NOW, DAY_S)
        assert out == sorted(out)
        left = [one for one in filed if one not in done and stock.has(one)]
        assert len(stock) == len(left)
        assert stock.size == sum(part.size for part in stock.parts) <= 10_000
    stock.rewind()
    again = read(stock)
    assert again == [one for one in filed if one not in done and stock.has(one)]
    for one in again:
        stock.finish(one)
    stock.gone(NOW, DAY_S)
    assert (len(stock), stock.size, stock.parts, stock.mark) == (0, 0, [], (0, 0))


def test_the_oldest_sixteenth_makes_room() -> None:
    stock = Stock(1600)
    numbers = [put(stock, 50) for _ in range(32)]
    assert stock.size == 1600
    assert len(stock.parts) == PARTS
    gone = stock.room(50)
    assert gone is not None
    assert sum(part.left for part in gone) == 2
    assert read(stock) == numbers[2:]


def test_or_the_newest_finds_none() -> None:
    stock = Stock(100, "drop-newest")
    numbers = [put(stock, 40) for _ in range(3)]
    assert numbers == [FIRST, FIRST + 1, 0]
    assert read(stock) == numbers[:2]


@pytest.mark.parametrize("overflow", ["drop-oldest", "drop-newest"])
def test_what_is_larger_than_the_whole_takes_nobodys_place(overflow: str) -> None:
    stock = Stock(100, overflow)  # type: ignore[arg-type]  # one of the words
    put(stock, 100)
    assert put(stock, 101) == 0
    assert len(stock) == 1


def test_a_failed_write_ends_a_part() -> None:
    stock = Stock(10_000)
    put(stock)
    assert stock.where(10) == (FIRST, False)
    stock.closed()
    assert stock.where(10) == (FIRST + 1, True)


def test_what_an_earlier_daemon_left_comes_first_and_its_gaps_are_known() -> None:
    stock = Stock(10_000)
    stock.found([Part(FIRST - 2, 2, 30, NOW), Part(FIRST, 3, 40, NOW, done=1), Part(FIRST + 5, 1, 20, NOW)])
    assert (len(stock), stock.size, stock.lost) == (5, 90, 2)
    later = put(stock)
    assert later == FIRST + 6
    assert read(stock) == [FIRST - 2, FIRST - 1, FIRST + 1, FIRST + 2, FIRST + 5, later]


def test_of_a_part_that_is_damaged_further_on_what_was_read_stays() -> None:
    stock = Stock(10_000)
    numbers = [put(stock) for _ in range(5)]
    part = stock.parts[0]
    assert stock.read(part, 3) == numbers[:3]
    stock.finish(numbers[1])
    assert stock.cut(part) == 2
    assert (len(stock), stock.next(), all(map(stock.has, numbers[:3]))) == (2, None, True)
    later = put(stock)
    assert later == numbers[-1] + 1  # nobody's number
    for one in (numbers[0], numbers[2]):
        stock.finish(one)
    assert [one.first for one in stock.gone(NOW, DAY_S)[0]] == [FIRST]


def test_what_cannot_be_read_is_passed_over_and_comes_back() -> None:
    stock = Stock(1600)
    numbers = [put(stock, 100) for _ in range(3)]
    stock.read(stock.parts[0], 1)
    first = stock.parts[0]
    stock.shut(first, "EIO")
    assert stock.aside == [first]
    assert read(stock) == numbers[1:]
    for one in numbers[1:]:
        stock.finish(one)
    assert [one.first for one in stock.gone(NOW, DAY_S)[0]] == numbers[1:]  # those behind it do not wait for it
    assert (len(stock), stock.size, stock.mark) == (1, 100, (0, 0))
    assert stock.opened(Part(numbers[0], 1, 100, NOW, apart=True)) == 0
    assert read(stock) == []  # it had been read
    stock.rewind()
    assert read(stock) == numbers[:1]


def test_what_could_never_be_read_takes_its_numbers_and_its_room_and_no_more() -> None:
    stock = Stock(1600)
    shut = Part(FIRST, 0, 800, Moment("", 0.0, 0), shut="EACCES", apart=True)
    stock.found(
        [Part(FIRST - 1, 1, 100, NOW), shut, Part(FIRST + 90, 2, 100, NOW, beyond={0}), Part(FIRST + 95, 1, 9, NOW)]
    )
    assert stock.lost == 3  # between the last two
    assert [part.first for part in stock.gone(Moment("boot", DAY_S * 2, 0), DAY_S)[0]] == [
        FIRST - 1,
        FIRST + 90,
        FIRST + 95,
    ]
    assert put(stock, 100) == FIRST + 96
    assert stock.gone(Moment("another", 0.0, 1), 0.0) == ([], 0)
    gone = stock.room(1000)
    assert gone is not None
    assert gone[0] is shut


def test_the_newest_of_all_cannot_be_read() -> None:
    stock = Stock(1600)
    stock.found([Part(FIRST, 0, 800, Moment("", 0.0, 0), shut="EACCES", apart=True)])
    assert put(stock, 100) == FIRST + 101  # in no file that is there


def test_parts_go_when_all_in_them_are_too_old() -> None:
    stock = Stock(1600)
    for up_s in (0.0, 0.0, 50.0):
        put(stock, 100, Moment("boot", up_s, 0))
    gone, old = stock.gone(Moment("boot", 60.0, 0), 60.0)
    assert ([part.first for part in gone], old, len(stock)) == ([FIRST, FIRST + 1], 2, 1)
    assert stock.gone(Moment("another", 1000.0, 0), 60.0) == ([], 0)  # nobody can tell


def _record(left_s: float | None) -> Record:
    return Record("t", b"", False, "", None, "", 100.0, 1_000_000, left_s)


@pytest.mark.parametrize(
    ("left_s", "now", "expected"),
    [
        (None, Moment("boot", 150.0, 0), Fate()),
        (60.0, Moment("boot", 150.0, 0), Fate(left_s=10.0)),
        (60.0, Moment("boot", 160.0, 0), Fate("expired")),
        (None, Moment("boot", 100.0 + DAY_S, 0), Fate("outbox_old")),
        (3 * DAY_S, Moment("boot", 100.0 + DAY_S, 0), Fate("outbox_old")),
        # After another start of the box only a clock that was set can tell.
        (60.0, Moment("boot-2", 1.0, 1_050_000), Fate(left_s=10.0)),
        (60.0, Moment("boot-2", 1.0, 1_060_000), Fate("expired")),
        (None, Moment("boot-2", 1.0, 0), Fate()),
    ],
)
def test_expiry_and_age_go_on_on_the_disk(left_s: float | None, now: Moment, expected: Fate) -> None:
    assert fate(_record(left_s), "boot", now, DAY_S, patient=True) == expected


def test_while_no_clock_can_tell_what_expires_waits_and_is_not_sent() -> None:
    now = Moment("boot-2", 1.0, 0)
    assert fate(_record(60.0), "boot", now, DAY_S, patient=True) == Fate(wait=True)
    assert fate(_record(60.0), "boot", now, DAY_S, patient=False) == Fate("expired")
