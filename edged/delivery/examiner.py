"""Performs a trial: starts a candidate beside the live model and runs the same inputs on both.

What the results mean is trial.py's; the limits here keep a trial from going on for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from edged.channel import InputHead
from edged.delivery import trial
from edged.delivery.trial import Case, Figures, Judgement, Run
from edged.errors import EdgedError, Fault, fault
from edged.serving.generation import Died, Generation, Release
from edged.serving.route import Route

TRIAL_LIMIT_S: Final = 300.0  # all of it, loading included
INPUTS_LIMIT_S: Final = 30.0  # after this no further input is begun
RECORDED: Final = 16
GENERATED: Final = 8


class Examined(msgspec.Struct, frozen=True, eq=False):
    """A trial's outcome; `candidate` is None when it failed, and then its process is ended."""

    candidate: Generation | None
    judgement: Judgement


async def examine(route: Route, release: Release, *, factor: float, clock: Callable[[], float]) -> Examined:
    """Tries `release` without routing anything to it. Cancelling ends the candidate's process."""
    began_s = clock()
    try:
        async with asyncio.timeout(TRIAL_LIMIT_S):
            await route.make_room(release)
            candidate = await route.start(release, candidate=True)
    except TimeoutError:
        return _refused(fault("too_slow", f"loading it took longer than {TRIAL_LIMIT_S:g} s"), clock() - began_s)
    except EdgedError as error:
        return _refused(_unloadable(error.fault), clock() - began_s)
    load_s = clock() - began_s
    async with _ended_unless_passed(route, candidate) as passed:
        judgement = await _judge(route, candidate, began_s=began_s, load_s=load_s, factor=factor, clock=clock)
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


async def _judge(
    route: Route,
    candidate: Generation,
    *,
    began_s: float,
    load_s: float,
    factor: float,
    clock: Callable[[], float],
) -> Judgement:
    problem = trial.signature_fault(route.signature, candidate.facts.signature) if candidate.facts else None
    if problem is not None:
        return Judgement(problem, (), Figures(load_s=round(load_s, 4)))
    cases: list[Case] = []
    try:
        async with asyncio.timeout(max(0.0, began_s + TRIAL_LIMIT_S - clock())):
            until_s = clock() + INPUTS_LIMIT_S
            async for head, payload, recorded in _inputs(route, candidate):
                cases.append(await _case(route, candidate, head, payload, recorded=recorded))
                if clock() > until_s or trial.case_fault(cases[-1]) is not None:
                    break
    except Died:
        problem = _death(candidate)
    except TimeoutError:
        problem = fault("too_slow", f"its trial took longer than {TRIAL_LIMIT_S:g} s")
    judgement = trial.judge(cases, load_s=load_s, factor=factor)
    if problem is None and not candidate.alive:
        problem = _death(candidate)
    return judgement if problem is None else msgspec.structs.replace(judgement, fault=problem)


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
    first = await _run(candidate, head, payload)
    second = await _run(candidate, head, payload)
    return Case(first, second, live, recorded)


async def _live(route: Route, head: InputHead, payload: bytes) -> Run | None:
    if route.live is None:
        return None
    try:
        return await _run(route.live, head, payload)
    except Died:
        return None  # the route deals with that; the trial goes on without a comparison


async def _run(generation: Generation, head: InputHead, payload: bytes) -> Run:
    probe = await generation.probe(head, payload)
    facts = generation.facts
    misfit = trial.misfit(facts.signature, probe.payload, probe.json_length) if facts and not probe.fault else ""
    return Run(probe.fault, probe.nonfinite, probe.cpu_s, probe.payload, misfit)


def _death(candidate: Generation) -> Fault:
    """Why the candidate's process ended: the reason it was killed for, else by itself."""
    if candidate.reason is None:
        return fault("trial_crash", "its process ended by itself in the trial")
    if candidate.reason.code == "model_failed":  # past limits.run
        return fault("too_slow", candidate.reason.message)
    return candidate.reason


def _unloadable(problem: Fault) -> Fault:
    """Steps of the configuration that do not fit the candidate mean that it has another signature."""
    return fault("io_mismatch", problem.message) if problem.code == "bad_config" else problem


def _refused(problem: Fault, load_s: float) -> Examined:
    return Examined(None, Judgement(problem, (), Figures(load_s=round(load_s, 4))))
