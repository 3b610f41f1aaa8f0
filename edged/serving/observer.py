"""What serving tells whoever counts."""

# ruff: noqa: ARG002  -  what is told is looked at by whoever counts

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Observer(Protocol):
    """observe.metrics.Metrics is one, and says what the figures are. What is not overridden counts nothing."""

    def answered(self, model: str, version: str, outcome: str, seconds: float) -> None:
        return

    def dropped(self, model: str, reason: str) -> None:
        return

    def restarted(self, model: str) -> None:
        return

    def fault(self, where: str) -> None:
        return

    def ran(
        self,
        model: str,
        version: str,
        requests: int,
        waited_s: float,
        spent_ns: tuple[int, int, int],
        rows: Sequence[int],
    ) -> None:
        return

    def tallied(
        self,
        model: str,
        version: str,
        outcomes: Mapping[str, int],
        durations: Mapping[int, int],
        seconds: float,
        runs: Mapping[int, tuple[int, int]],
    ) -> None:
        return


class Nobody(Observer):
    """For a rehearsal, which nobody counts."""
