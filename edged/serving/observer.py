"""What serving tells whoever counts."""

# ruff: noqa: ARG002  -  what is told is looked at by whoever counts

from __future__ import annotations

from typing import Protocol

from edged.observe.executions import Ran, Served


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

    def ran(self, model: str, version: str, ran: Ran) -> None:
        return

    def served(self, model: str, version: str, served: Served) -> None:
        return


class Nobody(Observer):
    """For a rehearsal, which nobody counts."""
