"""Requests with tensors in shared memory, over each transport: what the worker sees, and what becomes of its answer."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edged.errors import EdgedError, Fault, fault
from edged.messages import Answer, Outcome
from edged.oip.regions import Regions
from edged.oip.shared import Brought, laying_down
from tests.unit.transports.tongues import TONGUES, Output, Tensor, Tongue

LIMIT = 1000
PLAIN = Tensor("x")
NUMBER = st.integers(-5, 300) | st.integers(-(2**63), 2**63 - 1)
EIGHT = Tensor("x", "in", 8)


@pytest.fixture(params=TONGUES)
def tongue(request: pytest.FixtureRequest) -> Tongue:
    return TONGUES[request.param]


def brought(
    tongue: Tongue, regions: Regions, inputs: Sequence[Tensor], outputs: Sequence[Tensor] = (), junk: bytes = b""
) -> Brought:
    found = tongue.bring(regions, inputs, outputs, LIMIT, junk)
    assert found is not None
    return found


def test_inputs_are_read_in_their_order_among_the_others(tongue: Tongue, regions: Regions) -> None:
    inputs = [Tensor("a", "in", 8, 4), Tensor("b", raw=b"abc"), Tensor("c"), Tensor("d", "in", 2)]
    found = brought(tongue, regions, inputs)
    assert tongue.seen(found) == [bytes(range(4, 12)), b"abc", bytes(range(2))]
    assert b"shared_memory" not in found.head
    found.close()


def test_what_is_left_over_is_left_for_the_worker_to_refuse(tongue: Tongue, regions: Regions) -> None:
    found = brought(tongue, regions, [EIGHT], junk=b"junk")
    assert tongue.seen(found) == [bytes(range(8)), b"junk"]
    found.close()


def test_what_has_no_regions_is_the_workers(tongue: Tongue, regions: Regions) -> None:
    assert tongue.bring(regions, [PLAIN, Tensor("b", raw=b"abc")], [Tensor("y")], LIMIT) is None


@pytest.mark.parametrize(
    ("inputs", "outputs", "code"),
    [
        ([Tensor("x", "nothing", 8)], [], "bad_input"),
        ([Tensor("x", "in", 8, 193)], [], "bad_input"),
        ([Tensor("x", "in", None)], [], "bad_input"),
        ([Tensor("x", "in", 8, both=True)], [], "bad_input"),
        ([Tensor("x", "in", 200)] * 6, [], "input_too_large"),
        ([EIGHT], [Tensor("y", "nothing", 8)], "bad_input"),
        ([EIGHT], [Tensor("y", "out", 8, 193)], "bad_input"),
        ([EIGHT], [Tensor("y", "out", None)], "bad_input"),
        ([EIGHT], [Tensor("y", "out", 8)] * 2, "bad_input"),
    ],
)
def test_what_cannot_be_is_refused(
    tongue: Tongue, regions: Regions, inputs: list[Tensor], outputs: list[Tensor], code: str
) -> None:
    with pytest.raises(EdgedError) as found:
        brought(tongue, regions, inputs, outputs)
    assert found.value.fault.code == code


def settled(tongue: Tongue, regions: Regions, outcome: Outcome, *outputs: Tensor) -> Outcome:
    """What a sender gets whose `outputs` go to regions."""
    told: list[Outcome] = []
    works: list[Coroutine[Any, Any, None]] = []
    laying_down(brought(tongue, regions, [PLAIN], outputs), tongue.shortened, told.append, works.append)(outcome)
    assert not works
    (one,) = told
    return one


def test_outputs_are_laid_down_and_said_to_be_there(tongue: Tongue, regions: Regions, tmp_path: Path) -> None:
    made = tongue.answer(("z", b"ZZ"), ("y", b"YYYY"), ("v", b""))
    found = settled(tongue, regions, made, Tensor("z"), Tensor("y", "out", 100, 50))
    assert isinstance(found, Answer)
    assert tongue.said(found) == [Output("z", raw=b"ZZ"), Output("y", "out", 4, 50), Output("v")]
    assert (tmp_path / "out").read_bytes()[48:56] == b"\0\0YYYY\0\0"


def test_an_output_that_does_not_fit_its_place(tongue: Tongue, regions: Regions) -> None:
    found = settled(tongue, regions, tongue.answer(("y", b"YYYY")), Tensor("y", "out", 3))
    assert isinstance(found, Fault)
    assert found.code == "output_too_large"


def test_a_fault_stays_one(tongue: Tongue, regions: Regions) -> None:
    problem = fault("queue_full", "full")
    assert settled(tongue, regions, problem, Tensor("y", "out", 3)) is problem


@pytest.mark.parametrize("payload", [b"no json", b"[]", b"{}", b"\xff", b"\x08\x01", b"\x32\x01a"])
def test_an_answer_that_makes_no_sense_harms_nobody(tongue: Tongue, regions: Regions, payload: bytes) -> None:
    good = tongue.answer(("y", b"Y"))
    cut = Answer(good.payload[:-3], good.json_length, "3")
    for nonsense in (Answer(payload, 0, "3"), cut):
        found = settled(tongue, regions, nonsense, Tensor("y", "out", 3))
        assert isinstance(found, Fault), nonsense
        assert found.code == "internal"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["in", "out", "x"]),
    *[st.tuples(NUMBER, NUMBER)] * 2,
)
def test_any_numbers(
    tongue: Tongue, regions: Regions, region: str, sent: tuple[int, int], wanted: tuple[int, int]
) -> None:
    inputs, outputs = [Tensor("x", region, *sent)], [Tensor("y", region, *wanted)]
    try:
        found = tongue.bring(regions, inputs, outputs, LIMIT)
    except EdgedError as error:
        assert error.fault.code in ("bad_input", "input_too_large")
        return
    if found is not None:
        assert len(found.body()) <= LIMIT + len(found.head)
        found.close()
