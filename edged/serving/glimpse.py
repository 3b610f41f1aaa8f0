"""A model started once, the way the daemon would, and asked for one answer: what `edged init` goes by."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from edged.channel import InputHead, Ready
from edged.config.schema import Model
from edged.errors import EdgedError, Fault, fault
from edged.serving.generation import Died, Generation
from edged.serving.rehearsal import started


class Glimpse(msgspec.Struct, frozen=True):
    """What the worker said of the model, and its answer to a made-up input.

    The answer is an Open Inference Protocol response in JSON; b"" where the model refuses what is made up.
    """

    facts: Ready
    answer: bytes


def glimpse(settings: Model) -> Glimpse:
    """Raises EdgedError when the model cannot be loaded. Not for a running loop."""
    return asyncio.run(_glimpse(settings))


def attempt(settings: Model, content_type: str, payload: bytes) -> Fault | None:
    """Why the model, with its steps, does not answer this input; None when it does. Not for a running loop.

    Without a payload: why it cannot be loaded.
    """
    return asyncio.run(_attempt(settings, content_type, payload))


async def _glimpse(settings: Model) -> Glimpse:
    async with started(settings) as generation:
        facts = generation.facts
        if facts is None:
            raise EdgedError("internal", "a process that is loaded has not said what it has loaded")
        answer = b""
        with contextlib.suppress(EdgedError, Died):  # it does not fit a message, or is too much for the model
            payload, json_length = await generation.generate(0)
            answer = await _answer(generation, InputHead(len(payload), json_length=json_length), payload)
        return Glimpse(facts, answer)


async def _attempt(settings: Model, content_type: str, payload: bytes) -> Fault | None:
    try:
        async with started(settings) as generation:
            if payload:
                await _answer(generation, InputHead(len(payload), content_type=content_type), payload)
    except EdgedError as error:
        return error.fault
    except Died:
        return fault("model_failed", "its process ended over an input")
    return None


async def _answer(generation: Generation, head: InputHead, payload: bytes) -> bytes:
    probe = await generation.probe(head, payload)
    if probe.fault is not None:
        raise EdgedError(probe.fault.code, probe.fault.message, probe.fault.hint)
    return probe.payload
