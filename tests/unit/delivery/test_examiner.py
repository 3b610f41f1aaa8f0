"""A trial on processes in memory: what it holds of them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import ClassVar, Self

import msgspec
import pytest

from edged.channel import InputHead
from edged.delivery.examiner import GENERATED, examine
from edged.serving.generation import Probe
from edged.serving.release import Release
from tests.routes import MemoryGeneration, MemoryRoute


class Answer(bytes):
    """Counts how many of it there are."""

    there: ClassVar[int] = 0
    most: ClassVar[int] = 0

    def __new__(cls, content: bytes) -> Self:
        cls.there += 1
        cls.most = max(cls.most, cls.there)
        return super().__new__(cls, content)

    def __del__(self) -> None:
        type(self).there -= 1


def test_no_more_answers_are_in_memory_than_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One may have `limits.message`, and a trial has dozens of them."""
    file = tmp_path / "model.onnx"
    file.write_bytes(b"random 1")  # each run gives another one
    probe = MemoryGeneration.probe

    async def counted(self: MemoryGeneration, head: InputHead, payload: bytes) -> Probe:
        found = await probe(self, head, payload)
        return msgspec.structs.replace(found, payload=Answer(found.payload))

    monkeypatch.setattr(MemoryGeneration, "probe", counted)

    async def scenario() -> None:
        route = MemoryRoute()
        release = Release("m", "1", "", str(file))
        await route.serve(release)
        examined = await examine(route.as_route(), release, factor=3.0, clock=time.monotonic)
        assert examined.candidate is not None
        assert examined.judgement.figures.inputs == GENERATED
        assert examined.judgement.flags == ("nondeterministic",)
        assert 0 < Answer.most <= 4

    asyncio.run(scenario())
