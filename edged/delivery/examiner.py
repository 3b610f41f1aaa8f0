"""Performs a trial: starts a candidate beside the live model and runs the same inputs on both.

What the results mean is trial.py's; the limits here keep a trial from going on for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec

from edged.channel import Compare, InputHead
from edged.delivery import trial
from edged.delivery.documents import Golden, Limits
from edged.delivery.trial import Case, Figures, Judgement, Run
from edged.errors import EdgedError, Fault, fault
from edged.messages import FAST
from edged.serving.generation import Died, Generation
from edged.serving.release import Release
from edged.serving.route import Route
from edged.tensors import Compared

TRIAL_LIMIT_S: Final = 300.0  # all of it, loading included
INPUTS_LIMIT_S: Final = 30.0  # after this no further input is begun
RECORDED: Final = 16
UNLIMITED: Final = Limits()
GENERATED: Final = 8


class Examined(msgspec.Struct, frozen=True, eq=False):
    """A trial's outcome; `candidate` is None when it failed, and then its process is ended."""

    candidate: Generation | None
    judgement: Judgement


async def examine(
    route: Route,
    release: Release,
    *,
    factor: float,
    clock: Callable[[], float],
    golden: Golden | None = None,
    limits: Limits = UNLIMITED,
) -> Examined:
    """Tries `release` without routing anything to it. Cancelling ends the candidate's process.

    `golden` and `limits` are what a signed release adds. Its golden file lies beside its model; its limit on memory
    is `release.memory`, which holds for all its processes.
    """
    began_s = clock()
    loading_s = min(limits.load_s or TRIAL_LIMIT_S, TRIAL_LIMIT_S)
    try:
        async with asyncio.timeout(loading_s):
            await route.make_room(release)
            candidate = await route.start(release, candidate=True)
    except TimeoutError:
        return _refused(_late(loading_s), clock() - began_s)
    except EdgedError as error:
        return _refused(_unloadable(error.fault, release), clock() - began_s)
    load_s = clock() - began_s
    async with _ended_unless_passed(route, candidate) as passed:
        found = await _run_all(route, candidate, golden, clock=clock, until_s=began_s + TRIAL_LIMIT_S)
        judgement = found.judgement(load_s=load_s, factor=factor, cpu_ms=limits.cpu_ms)
        if judgement.fault is not None:
            return Examined(None, judgement)
        passed.append(True)
        return Examined(candidate, judgement)


@contextlib.asynccontextmanager
async def _ended_unless_passed(route: Route, candidate: Generation) -> AsyncIterator[list[bool]]:
    passed: list[bool] = []
    try:
        yield passed
    finally:
        if not passed:
            await route.retire(candidate)


class _Found:
    """What the inputs gave so far; `problem` ends the trial."""

    def __init__(self) -> None:
        self.problem: Fault | None = None
        self.golden: list[Compared] = []
        self.cases: list[Case] = []

    def judgement(self, *, load_s: float, factor: float, cpu_ms: float) -> Judgement:
        made = trial.judge(self.cases, load_s=load_s, factor=factor, golden=self.golden, cpu_ms=cpu_ms)
        return made if self.problem is None else msgspec.structs.replace(made, fault=self.problem)


async def _run_all(
    route: Route, candidate: Generation, golden: Golden | None, *, clock: Callable[[], float], until_s: float
) -> _Found:
    """Golden inputs, recorded ones, made-up ones (RULES 24)."""
    found = _Found()
    if candidate.facts is not None:
        said = candidate.release.signature
        found.problem = trial.signature_fault(route.signature, candidate.facts.signature, said)
    try:
        async with asyncio.timeout(max(0.0, until_s - clock())):
            if golden is not None and found.problem is None:
                found.problem = await _golden(candidate, golden, found.golden)
            if found.problem is None:
                await _compared(route, candidate, found.cases, clock)
    except Died:
        found.problem = _death(candidate)
    except TimeoutError:
        found.problem = fault("too_slow", f"its trial took longer than {TRIAL_LIMIT_S:g} s")
    if found.problem is None and not candidate.alive:
        found.problem = _death(candidate)
    return found


async def _golden(candidate: Generation, golden: Golden, found: list[Compared]) -> Fault | None:
    """Runs the golden inputs on the candidate, all of them, until one is not answered as it has to be."""
    file = str(Path(candidate.release.file).with_name(golden.file))
    while not found or len(found) < found[0].cases:
        try:
            compared = await candidate.compare(Compare(0, file, len(found), golden.atol, golden.rtol))
        except EdgedError as error:
            return Fault(error.fault.code, f"{golden.file}: {error.fault.message}", error.fault.hint)
        found.append(compared)
        problem = trial.golden_fault(golden.file, len(found) - 1, compared)
        if problem is not None:
            return problem
    return None


async def _compared(route: Route, candidate: Generation, found: list[Case], clock: Callable[[], float]) -> None:
    """Runs the same inputs on the candidate and the live model, until one speaks against it."""
    until_s = clock() + INPUTS_LIMIT_S
    async for head, payload, recorded in _inputs(route, candidate):
        found.append(await _case(route, candidate, head, payload, recorded=recorded))
        if clock() > until_s or trial.case_fault(found[-1]) is not None:
            break


async def _inputs(route: Route, candidate: Generation) -> AsyncIterator[tuple[InputHead, bytes, bool]]:
    """The last real inputs, then made-up ones: (head, payload, whether it is a real one).

    All of them ask for raw tensors, so that the JSON of an answer stays small enough for the loop.
    """
    for head, payload in route.recent()[-RECORDED:]:
        yield msgspec.structs.replace(head, binary=True), payload, True
    for seed in range(GENERATED):
        try:
            payload, json_length = await _made_up(route.live or candidate, candidate, seed)
        except EdgedError:
            return  # it would be above limits.message, and no sender may send one either
        yield InputHead(len(payload), json_length=json_length, binary=True), payload, False


async def _made_up(first: Generation, candidate: Generation, seed: int) -> tuple[bytes, int]:
    """An input for the live model's signature, which both take; for the candidate's where nobody is live."""
    try:
        return await first.generate(seed)
    except Died:
        return await candidate.generate(seed)


async def _case(route: Route, candidate: Generation, head: InputHead, payload: bytes, *, recorded: bool) -> Case:
    live = await _live(route, head, payload)
    first, answer = await _run(candidate, head, payload)
    second, again = await _run(candidate, head, payload)
    return Case(first, second, live, recorded, steady=answer == again)


async def _live(route: Route, head: InputHead, payload: bytes) -> Run | None:
    if route.live is None:
        return None
    try:
        return (await _run(route.live, head, payload))[0]
    except Died:
        return None  # the route deals with that; the trial goes on without a comparison


async def _run(generation: Generation, head: InputHead, payload: bytes) -> tuple[Run, bytes]:
    """What an input gave, and its answer."""
    probe = await generation.probe(head, payload)
    misfit = ""
    if generation.facts is not None and probe.fault is None:
        signature = generation.facts.signature
        misfit = trial.misfit(signature, probe.payload, probe.json_length, fast=head.form == FAST)
    return Run(probe.fault, probe.nonfinite, probe.cpu_s, misfit), probe.payload


def _death(candidate: Generation) -> Fault:
    """Why the candidate's process ended: the reason it was killed for, else by itself."""
    if candidate.reason is None:
        return fault("trial_crash", "its process ended by itself in the trial")
    if candidate.reason.code == "model_failed":  # past limits.run
        return fault("too_slow", candidate.reason.message)
    return candidate.reason


def _late(loading_s: float) -> Fault:
    if loading_s == TRIAL_LIMIT_S:
        return fault("too_slow", f"loading it took longer than {loading_s:g} s")
    text = f"loading it took longer than {loading_s:g} s, which its release allows"
    return fault("too_slow", text, "Release it again with another --max-load, or a smaller model.")


def _unloadable(problem: Fault, release: Release) -> Fault:
    """Steps that do not fit the candidate: its own are wrong; the box's mean that it has another signature."""
    if problem.code != "bad_config":
        return problem
    return fault("io_mismatch" if release.settings is None else "bad_settings", problem.message)


def _refused(problem: Fault, load_s: float) -> Examined:
    return Examined(None, Judgement(problem, (), Figures(load_s=round(load_s, 4))))
