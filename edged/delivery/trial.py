"""Whether a candidate may take over (RULES 24, 25). Pure: what its inputs gave comes in, a verdict goes out.

- A release's golden inputs come first. Their answers have to be the golden ones: the live model is not asked.
- Too much memory always fails, and so do a crash and a hang: the examiner sees those, they never get here.
- An error, or NaN or infinity, fails only where the live model does better on the same input: random
  ids fail a Gather rightly, and a NaN that a sensor sends comes out of every model.
- With no live model and no golden inputs there is nothing to compare with: flag `untested`.
- So does an output whose shape is not the declared one: onnxruntime lets that pass.
- Two runs of one input that differ: flag `nondeterministic`; values are not compared.
- Latency is CPU time per input, on a GPU the wall's, medians over the same inputs; see probation.too_slow. Of the
  candidate's two runs the second counts: the first of a shape may have to choose its kernels. A release may set a limit
  of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from edged import frames
from edged.delivery import probation
from edged.errors import Fault, fault
from edged.frames import Tensor
from edged.tensors import Compared, Signature, contradictions, differences

UNTESTED: Final = "untested"
NONDETERMINISTIC: Final = "nondeterministic"


class Run(msgspec.Struct, frozen=True):
    """What one input gave on one side. `misfit` says how an output differs from the declared signature."""

    fault: Fault | None
    nonfinite: bool
    cpu_s: float
    misfit: str = ""


class Case(msgspec.Struct, frozen=True):
    """One input, run twice on the candidate and, where there is one, once on the live model.

    `steady`: the candidate's two runs gave the same answer. The answers themselves may be large, and are not kept.
    """

    first: Run
    second: Run
    live: Run | None = None
    recorded: bool = False
    steady: bool = True


class Figures(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the status says of a trial. `ratio` is the candidate's CPU time over the live model's.

    `golden`: how many golden inputs were run, `difference`: how far the worst element was from its golden value.
    """

    load_s: float
    golden: int = 0
    difference: float = 0.0
    inputs: int = 0
    recorded: int = 0
    cpu_ms: float = 0.0
    live_cpu_ms: float = 0.0
    ratio: float = 0.0


class Judgement(msgspec.Struct, frozen=True):
    """`fault` None: it may take over. `cpu_s` is the live model's median, 0 unknown."""

    fault: Fault | None
    flags: tuple[str, ...]
    figures: Figures
    live_cpu_s: float = 0.0


def signature_fault(live: Signature | None, candidate: Signature, said: Signature | None = None) -> Fault | None:
    """io_mismatch: where it is not what its document has `said`, else every difference that would break a client of
    the live model.
    """
    found = contradictions(said, candidate) if said is not None else []
    found = found or (differences(live, candidate) if live is not None else [])
    return fault("io_mismatch", "; ".join(found)) if found else None


class _Output(msgspec.Struct, frozen=True):
    name: str
    shape: tuple[int, ...]


class _Answer(msgspec.Struct, frozen=True):
    outputs: tuple[_Output, ...] = ()


def misfit(signature: Signature, payload: bytes, json_length: int, *, fast: bool = False) -> str:
    """How an answer's outputs differ from the declared ones; "" when they keep them, or the answer names none.

    `fast`: it is a body of the fast lane's, not JSON.
    """
    try:
        if fast:
            outputs: Sequence[_Output | Tensor] = frames.read_body(frames.described(payload)).tensors
        else:
            outputs = msgspec.json.decode(payload[: json_length or len(payload)], type=_Answer).outputs
    except (msgspec.MsgspecError, frames.Malformed):
        return ""
    declared = {spec.name: spec.shape for spec in signature.outputs}
    for output in outputs:
        shape = declared.get(output.name)
        if shape is not None and not _keeps(shape, output.shape):
            return f"output {output.name} comes out as {list(output.shape)}, declared is {list(shape)}"
    return ""


def _keeps(declared: tuple[int, ...], given: tuple[int, ...]) -> bool:
    if len(declared) != len(given):
        return False
    return all(a in (-1, b) for a, b in zip(declared, given, strict=True))


def case_fault(case: Case) -> Fault | None:
    """What this input says against the candidate; nothing where the live model did no better."""
    for run in (case.first, case.second):
        if run.fault is not None and run.fault.code == "over_memory":
            return run.fault
    if case.live is None or case.live.fault is not None:
        return None
    for run in (case.first, case.second):
        if run.fault is not None:
            kind = "a recorded" if case.recorded else "a generated"
            return fault("trial_error", f"{kind} input that the live model answers: {run.fault.message}")
        if run.nonfinite and not case.live.nonfinite:
            return fault("nonfinite", "it answers NaN or infinity where the live model does not")
        if run.misfit and not case.live.misfit:
            return fault("io_mismatch", run.misfit)
    return None


def golden_fault(file: str, case: int, compared: Compared) -> Fault | None:
    """What a golden input says against the candidate."""
    return fault("golden", f"{file}, case {case}: {compared.fault}") if compared.fault else None


def judge(
    cases: Sequence[Case], *, load_s: float, factor: float, golden: Sequence[Compared] = (), cpu_ms: float = 0.0
) -> Judgement:
    """The verdict on all inputs; the first fault wins. `factor` is how much slower it may be.

    `cpu_ms`: what an input may take by the release's own word, 0 for no limit. What is wrong with `golden` was seen
    when it was run (golden_fault).
    """
    flags: list[str] = []
    if not golden and not any(case.live for case in cases):
        flags.append(UNTESTED)
    if not all(case.steady for case in cases):
        flags.append(NONDETERMINISTIC)
    # Only inputs that both sides answered: an error costs less than a run.
    both = [case for case in cases if case.live and not (case.first.fault or case.second.fault or case.live.fault)]
    mine = both or [case for case in cases if not (case.first.fault or case.second.fault)]
    runs = [case.second.cpu_s for case in mine]
    cpu_s = probation.median(runs or [one.cpu_s for one in golden])
    live_cpu_s = probation.median([case.live.cpu_s for case in both if case.live])
    figures = Figures(
        load_s=round(load_s, 4),
        golden=len(golden),
        difference=max((one.difference for one in golden if math.isfinite(one.difference)), default=0.0),
        inputs=len(cases),
        recorded=sum(case.recorded for case in cases),
        cpu_ms=round(cpu_s * 1e3, 4),
        live_cpu_ms=round(live_cpu_s * 1e3, 4),
        ratio=round(cpu_s / live_cpu_s, 3) if live_cpu_s else 0.0,
    )
    problem = next((found for case in cases if (found := case_fault(case))), None)
    if problem is None and probation.too_slow(cpu_s, live_cpu_s, factor):
        problem = fault(
            "too_slow",
            f"{figures.cpu_ms:g} ms of CPU per input where the live model takes {figures.live_cpu_ms:g} ms",
            "Push a smaller model, or raise push.probation.max_latency.",
        )
    if problem is None and 0 < cpu_ms < figures.cpu_ms:
        text = f"{figures.cpu_ms:g} ms of CPU per input, its release allows {cpu_ms:g} ms"
        problem = fault("too_slow", text, "Release it again with another --max-cpu, or a smaller model.")
    return Judgement(problem, tuple(flags), figures, live_cpu_s)
