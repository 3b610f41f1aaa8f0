"""Verdicts of trials, on tables of results (RULES 24, 25)."""

from __future__ import annotations

import json

import pytest

from edged import frames
from edged.delivery import trial
from edged.delivery.trial import Case, Run
from edged.errors import Fault, fault
from edged.tensors import Signature, TensorSpec

FINE = Run(None, nonfinite=False, cpu_s=0.010)
NAN = Run(None, nonfinite=True, cpu_s=0.010)
ERROR = Run(fault("model_failed", "no such row"), nonfinite=False, cpu_s=0.0)
MISFIT = Run(None, nonfinite=False, cpu_s=0.010, misfit="five, declared is ten")
MEMORY = Run(fault("over_memory", "too much"), nonfinite=False, cpu_s=0.0)


def run(cpu_s: float) -> Run:
    return Run(None, nonfinite=False, cpu_s=cpu_s)


@pytest.mark.parametrize(
    ("candidate", "live", "code"),
    [
        (FINE, FINE, None),
        (ERROR, FINE, "trial_error"),
        (NAN, FINE, "nonfinite"),
        (ERROR, ERROR, None),  # random ids fail a Gather rightly
        (NAN, NAN, None),
        (NAN, ERROR, None),
        (ERROR, NAN, "trial_error"),
        (ERROR, None, None),
        (NAN, None, None),
        (FINE, ERROR, None),
        (MISFIT, FINE, "io_mismatch"),
        (MISFIT, MISFIT, None),
        (MISFIT, None, None),
        (MEMORY, FINE, "over_memory"),
        (MEMORY, ERROR, "over_memory"),
        (MEMORY, None, "over_memory"),
    ],
)
@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_a_candidate_need_not_do_better_than_the_live_model(
    candidate: Run, live: Run | None, code: str | None, *, recorded: bool, second: bool
) -> None:
    runs = (FINE, candidate) if second else (candidate, FINE)
    found = trial.case_fault(Case(*runs, live, recorded=recorded))
    assert (found.code if found else None) == code


@pytest.mark.parametrize(
    ("cpu_s", "live_cpu_s", "slow"),
    [
        (0.030, 0.010, False),  # exactly the factor
        (0.0301, 0.010, True),
        (0.0009, 0.0001, False),  # 9x, but within a millisecond
        (0.0010, 0.0001, False),
        (0.00111, 0.0001, True),
        (0.0025, 0.001, False),  # more than a millisecond, but within the factor
        (5.0, 0.0, False),  # nothing to compare with
    ],
)
def test_slow_is_past_both_the_factor_and_a_millisecond(cpu_s: float, live_cpu_s: float, *, slow: bool) -> None:
    judged = trial.judge([Case(run(cpu_s), run(cpu_s), run(live_cpu_s))] * 3, load_s=0.1, factor=3.0)
    assert (judged.fault is not None) == slow
    if judged.fault:
        assert (judged.fault.code, "max_latency" in judged.fault.hint) == ("too_slow", True)


def test_one_slow_run_among_many_is_no_verdict() -> None:
    cases = [Case(run(0.010), run(0.010), run(0.010)) for _ in range(5)]
    cases.append(Case(run(9.0), run(9.0), run(0.010)))
    assert trial.judge(cases, load_s=0.1, factor=3.0).fault is None


def test_an_error_that_costs_nothing_does_not_hide_a_slow_model() -> None:
    slow = Case(run(0.1), run(0.1), run(0.01))
    judged = trial.judge([Case(ERROR, ERROR, ERROR)] * 5 + [slow] * 2, load_s=0.1, factor=3.0)
    assert judged.fault is not None
    assert judged.fault.code == "too_slow"


def test_figures_say_what_was_compared() -> None:
    cases = [Case(run(0.02), run(0.02), run(0.01), recorded=True), Case(run(0.02), run(0.02), run(0.01))]
    judged = trial.judge(cases, load_s=0.25, factor=3.0)
    assert judged.figures == trial.Figures(load_s=0.25, inputs=2, recorded=1, cpu_ms=20.0, live_cpu_ms=10.0, ratio=2.0)
    assert judged.live_cpu_s == 0.01
    assert judged.flags == ()


def test_without_a_live_model_the_trial_says_so() -> None:
    assert trial.judge([Case(FINE, FINE)], load_s=0.0, factor=3.0).flags == (trial.UNTESTED,)


def test_two_runs_that_differ_are_flagged() -> None:
    judged = trial.judge([Case(FINE, FINE, FINE, steady=False)], load_s=0.0, factor=3.0)
    assert (judged.flags, judged.fault) == ((trial.NONDETERMINISTIC,), None)


def _signature(size: int) -> Signature:
    return Signature((TensorSpec("x", "FP32", (-1, size)),), (TensorSpec("y", "FP32", (-1, 10)),))


def test_another_signature_says_every_difference() -> None:
    found = trial.signature_fault(_signature(64), _signature(63))
    assert isinstance(found, Fault)
    assert found.code == "io_mismatch"
    assert "[-1, 63], not [-1, 64]" in found.message
    assert trial.signature_fault(_signature(64), _signature(64)) is None
    assert trial.signature_fault(None, _signature(64)) is None


@pytest.mark.parametrize(
    ("shape", "fits"), [("[1,10]", True), ("[7,10]", True), ("[1,5]", False), ("[10]", False), ("[1,10,1]", False)]
)
@pytest.mark.parametrize("tail", [b"", b"\x00\xff"])
def test_an_output_keeps_the_declared_shape_or_does_not(shape: str, tail: bytes, *, fits: bool) -> None:
    text = f'{{"model_name":"m","outputs":[{{"name":"y","datatype":"FP32","shape":{shape}}}]}}'.encode()
    said = trial.misfit(_signature(64), text + tail, len(text) if tail else 0)
    assert (said == "") == fits
    body, _ = frames.describe([("y", "FP32", json.loads(shape), 0)])
    assert (trial.misfit(_signature(64), body, 0, fast=True) == "") == fits


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"outputs": 3}', b'{"outputs":[{"name":"z","shape":[3]}]}', b"\xff"])
def test_an_answer_that_names_no_output_of_the_model_says_nothing(payload: bytes) -> None:
    assert trial.misfit(_signature(64), payload, 0) == ""
    assert trial.misfit(_signature(64), payload, 0, fast=True) == ""
