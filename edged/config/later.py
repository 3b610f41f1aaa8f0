"""Keys that edged is going to have and this version lacks: told apart from misspelt ones."""

from __future__ import annotations

from typing import Final

from edged.config import schema

_MODEL_LATER: Final = frozenset({"window", "state", "pipeline", "alarms", "capture", "drift"})

KEYS: Final[dict[type, frozenset[str]]] = {
    schema.Config: frozenset({"version"}),
    schema.Mqtt: frozenset({"home_assistant"}),
    schema.Model: _MODEL_LATER | {"providers"},
    schema.Input: frozenset({"window"}),
    schema.Push: frozenset({"connection"}),
}
