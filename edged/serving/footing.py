"""What a model's processes run on, and whether another may be started beside the one that answers."""

from __future__ import annotations

from edged.config.schema import Model
from edged.errors import EdgedError, Fault, fault
from edged.serving.generation import Generation
from edged.serving.memory import lacking
from edged.worker.providers.table import on_device


def steady(live: Generation | None, fresh: Generation) -> Generation:
    """`fresh`, unless it fell back to the CPU beside a `live` one that has its GPU: then it is ended.

    Raises EdgedError no_provider. With nobody else to answer the CPU is better than nothing.
    """
    if live is None or not _on_device(live) or fresh.facts is None or not fresh.facts.fallback:
        return fresh
    fresh.close()
    text = f"it falls back to the CPU beside a version that does not: {fresh.facts.fallback}"
    raise EdgedError("no_provider", text, "`swap: stop_start` where the GPU has no room for two.")


def cramped(live: Generation | None, file: str, settings: Model, available: int | None) -> Fault | None:
    """Why no process of this model file should be started beside `live`; `available` is MemAvailable, None unknown.

    How much of a GPU's memory is free nobody knows: `swap: stop_start` says that two do not fit (RULES 9).
    """
    if live is None:
        return None
    if settings.swap == "stop_start" and _on_device(live):
        return fault("no_space", "the GPU has no room for two, as `swap` says")
    return lacking(file, available, settings.providers)


def _on_device(generation: Generation) -> bool:
    return generation.facts is not None and on_device(generation.facts.providers)
