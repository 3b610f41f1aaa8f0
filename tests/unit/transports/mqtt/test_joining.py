"""Which values meet, which wait, and that nothing waits for ever (RULES 16)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config import schema
from edged.config.steps import Form
from edged.config.units import Duration
from edged.transports.mqtt.inputs import Arrival, Target
from edged.transports.mqtt.joining import BYTES, OWED, PATIENCE_S, STREAMS, Joined, Joiner, Owed, Part
from edged.transports.mqtt.results import Receipt, Sender


def entry(topic: str, tensor: str, **more: Any) -> schema.Input:
    return schema.Input(topic, form=Form(tensor=tensor), **more)


TEMP = entry("cells/+cell/temp", "t")
FLOW = entry("cells/+cell/flow", "f")
ROOM = entry("room", "r", hold=Duration(5))


class Bench:
    """A joiner and the values that were offered to it."""

    def __init__(self, *inputs: schema.Input) -> None:
        self.owed = Owed()
        self.joiner = Joiner(schema.Model("m", inputs=inputs or (TEMP, FLOW)), self.owed)
        self.number = 0
        self.now = 0.0

    def send(self, form: int, cell: str = "1", *, size: int = 1, qos: int = 1, number: int = 1) -> Joined:
        self.number += 1
        arrival = Arrival("x", bytes(size), qos, retain=False, mid=self.number, number=number)
        levels = {"cell": cell} if cell else {}
        sender = Sender(arrival, Target("m", form, levels), Receipt.of(arrival, 1), self.now, 0, "out")
        return self.joiner.take(Part(sender), self.now)


def mids(parts: list[Part]) -> list[int]:
    return [part.sender.arrival.mid for part in parts]


def met(joined: Joined) -> list[list[int]]:
    return [mids(parts) for parts in joined.met]


def gone(joined: Joined) -> list[tuple[int, str]]:
    return [(part.sender.arrival.mid, code) for part, code in joined.gone]


def test_values_of_one_stream_meet_once() -> None:
    bench = Bench()
    assert met(bench.send(0, "1")) == []
    assert met(bench.send(1, "2")) == []
    assert met(bench.send(1, "1")) == [[1, 3]]
    assert met(bench.send(1, "1")) == []  # a new value of each is needed
    assert met(bench.send(0, "1")) == [[4, 5]]
    assert met(bench.send(0, "2")) == [[2, 6]]
    assert len(bench.joiner) == 0


def test_a_newer_value_takes_the_place_of_one_that_waits() -> None:
    bench = Bench()
    bench.send(0)
    assert gone(bench.send(0)) == [(1, "replaced")]
    assert met(bench.send(1)) == [[2, 3]]


def test_a_held_value_is_lent_to_every_stream_until_its_time_is_over() -> None:
    bench = Bench(TEMP, FLOW, ROOM)
    bench.send(0)
    assert met(bench.send(1)) == []  # nothing to lend yet
    assert met(bench.send(2, "")) == [[3, 1, 2]]
    for cell in "12":
        bench.send(0, cell)
        assert len(met(bench.send(1, cell))) == 1
    bench.now = 5.1
    bench.send(0)
    assert met(bench.send(1)) == []
    assert met(bench.send(2, "")) == [[10, 8, 9]]


def test_a_held_value_is_acknowledged_at_once_and_its_stream_may_be_narrower() -> None:
    bench = Bench(TEMP, entry("cells/+cell/kind", "k", hold=Duration(60)))
    assert len(bench.send(1, "1").settled) == 1
    assert met(bench.send(0, "2")) == []
    assert met(bench.send(0, "1")) == [[1, 3]]


def test_a_value_whose_partner_never_comes_is_given_up() -> None:
    bench = Bench(TEMP, entry("cells/+cell/flow", "f", max_age=Duration(2)))
    bench.send(0, "1")
    bench.send(1, "2")
    assert gone(bench.joiner.sweep(2.0)) == []
    assert gone(bench.joiner.sweep(2.1)) == [(2, "no_partner")]
    assert gone(bench.joiner.sweep(PATIENCE_S + 1)) == [(1, "no_partner")]
    assert len(bench.joiner) == 0


def test_held_values_are_forgotten_when_their_time_is_over() -> None:
    bench = Bench(TEMP, FLOW, ROOM)
    bench.send(2, "")
    assert len(bench.joiner) == 1
    bench.joiner.sweep(5.1)
    assert len(bench.joiner) == 0


def test_streams_and_bytes_are_bounded() -> None:
    bench = Bench()
    for cell in range(STREAMS):
        assert gone(bench.send(0, str(cell))) == []
    assert gone(bench.send(0, "one too many")) == [(1, "no_partner")]
    small = Bench()
    small.send(0, "1", size=BYTES // 2)
    small.send(0, "2", size=BYTES // 2)
    assert gone(small.send(0, "3")) == [(1, "no_partner")]


def test_held_values_are_bounded_too() -> None:
    bench = Bench(TEMP, entry("cells/+cell/kind", "k", hold=Duration(60)))
    for cell in range(3 * STREAMS):
        bench.send(1, str(cell))
    assert len(bench.joiner) == STREAMS
    large = Bench(TEMP, entry("cells/+cell/kind", "k", hold=Duration(60)))
    for cell in range(5):
        large.send(1, str(cell), size=BYTES // 3)
    assert len(large.joiner) == 3


def test_only_a_few_wait_unacknowledged() -> None:
    """Else a broker that sends 20 at a time would never come to the partners."""
    bench = Bench()
    settled = [receipt.mid for cell in range(OWED + 5) for receipt in bench.send(0, str(cell)).settled]
    assert settled == [1, 2, 3, 4, 5]
    assert all(bench.send(0, f"at QoS 0: {cell}", qos=0).settled == [] for cell in range(20))
    (parts,) = bench.send(1, "0").met
    assert [part.sender.receipt.owed for part in parts] == [False, True]


def test_a_kept_session_sends_again_what_was_not_acknowledged() -> None:
    bench = Bench()
    for cell in range(OWED + 1):
        bench.send(0, str(cell), number=1)
    bench.send(0, "new", number=2)
    bench.joiner.forget(2)
    assert met(bench.send(1, "0", number=2))  # acknowledged while it waited: it would not come again
    assert not met(bench.send(1, "5", number=2))
    assert met(bench.send(1, "new", number=2))


STEP = st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.sampled_from([0, 10, BYTES // 4]), st.floats(0, 20))


@given(st.lists(STEP, max_size=60))
def test_every_value_has_one_fate(steps: list[tuple[int, str, int, float]]) -> None:
    bench = Bench(TEMP, FLOW, ROOM)
    fates: dict[int, int] = {}
    held: set[int] = set()
    for form, cell, size, pause_s in steps:
        bench.now += pause_s
        joined = bench.joiner.sweep(bench.now)
        after = bench.send(form, "" if form == 2 else cell, size=size)
        if form == 2:
            held.add(bench.number)
        for parts in after.met:
            assert {part.form for part in parts} == {0, 1, 2}
            assert len({part.sender.target.levels.get("cell") for part in parts if part.form != 2}) == 1
        final = [part for parts in after.met for part in parts] + [part for part, _ in [*joined.gone, *after.gone]]
        for mid in mids(final):
            fates[mid] = fates.get(mid, 0) + 1
        waiting = [part for values in bench.joiner._waiting.values() for part in values.values()]
        assert sum(part.size for part in [*waiting, *bench.joiner._held.values()]) == bench.joiner._bytes <= BYTES
    over = bench.joiner.sweep(bench.now + PATIENCE_S + 1)
    for part, _ in over.gone:
        fates[part.sender.arrival.mid] = fates.get(part.sender.arrival.mid, 0) + 1
    assert len(bench.joiner) == 0
    assert len(bench.owed._parts) == 0
    assert all(fates.get(mid) == 1 for mid in range(1, bench.number + 1) if mid not in held)


@pytest.mark.parametrize("inputs", [(TEMP, FLOW), (FLOW, TEMP)])
def test_the_newest_value_comes_last(inputs: tuple[schema.Input, ...]) -> None:
    bench = Bench(*inputs)
    bench.send(1)
    assert met(bench.send(0)) == [[1, 2]]
