"""What GET /edged/status says: one frozen value that the daemon builds and `edged status` reads. Pure.

docs/metrics.md describes it; a member may be added, none changes its meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from edged.errors import as_json
from edged.observe.facts import ModelFacts
from edged.observe.metrics import Figures
from edged.observe.resources import Box, Process, Resources, Total


class Install(msgspec.Struct, frozen=True):
    """The last push of a model: the members of `install/<model>` that fit a line."""

    phase: str = "idle"
    verdict: str | None = None
    code: str | None = None
    message: str = ""
    hint: str = ""
    push: dict[str, str] | None = None
    want: dict[str, Any] | None = None
    held: dict[str, Any] | None = None
    refused: dict[str, str] = {}
    bytes_have: int = 0
    bytes_total: int = 0


class ModelStatus(msgspec.Struct, frozen=True):
    """One model. Counts since the daemon started; `rate` (per second), p50 and p99 of the last 10 to 20 s.

    `memory_bytes` and `cpu_s` are the process's own, null while there is none. `dropped` is by reason,
    `fault` has code, message and hint. `direct` is the path of its own socket, "" for none. `providers` run the model,
    in onnxruntime's words; `fallback` says why it is not the first of the configuration's, "" when it is.
    """

    name: str
    state: str
    version: str
    sha256: str
    pid: int | None
    requests: int
    errors: int
    dropped: dict[str, int]
    restarts: int
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    memory_bytes: int | None
    cpu_s: float | None
    queue: int
    in_flight: int
    fault: dict[str, str] | None
    install: Install | None
    direct: str = ""
    providers: tuple[str, ...] = ()
    fallback: str = ""


class Audit(msgspec.Struct, frozen=True):
    """Lines of the audit that wait for a disk that cannot be written, and those that no file will have."""

    waiting: int = 0
    lost: int = 0


class Reloaded(msgspec.Struct, frozen=True):
    """The last reload of the configuration: `at_ms` is wall clock, `code` "" when it took effect."""

    at_ms: int
    message: str
    code: str = ""
    hint: str = ""
    by: str = ""


class DaemonStatus(msgspec.Struct, frozen=True):
    """The daemon. `mqtt` is null where no broker is configured, else what the MQTT transport says of itself.

    `flags`: of presence.rules.
    """

    version: str
    device: str
    pid: int
    uptime_s: float
    mqtt: dict[str, object] | None = None
    audit: Audit = Audit()
    reload: Reloaded | None = None
    flags: tuple[str, ...] = ()


class Status(msgspec.Struct, frozen=True):
    """All of it. `box` and `tree` (every process of edged) are the last telemetry sample, null before it."""

    daemon: DaemonStatus
    models: tuple[ModelStatus, ...]
    box: Box | None = None
    tree: Total | None = None


def build(
    daemon: DaemonStatus,
    models: Iterable[ModelFacts],
    figures: Mapping[str, Figures],
    resources: Resources | None,
    installs: Mapping[str, Mapping[str, object]],
) -> Status:
    """`figures` are metrics.figures(), `installs` the last status document of each model's pushes."""
    processes = resources.processes if resources else {}
    return Status(
        daemon,
        tuple(
            _model(one, figures.get(one.name, Figures()), processes.get(one.pid or 0), installs.get(one.name))
            for one in models
        ),
        resources.box if resources else None,
        resources.tree if resources else None,
    )


def _model(
    facts: ModelFacts, figures: Figures, used: Process | None, install: Mapping[str, object] | None
) -> ModelStatus:
    return ModelStatus(
        name=facts.name,
        state=facts.state,
        version=facts.version,
        sha256=facts.sha256,
        pid=facts.pid,
        requests=figures.requests,
        errors=figures.errors,
        dropped=figures.dropped,
        restarts=figures.restarts,
        rate=round(figures.rate, 2),
        p50_ms=_ms(figures.p50_s),
        p99_ms=_ms(figures.p99_s),
        memory_bytes=used.memory if used else None,
        cpu_s=round(used.cpu_s, 2) if used else None,
        queue=facts.queue,
        in_flight=facts.in_flight,
        fault=as_json(facts.fault) if facts.fault else None,
        direct=facts.direct,
        providers=facts.providers,
        fallback=facts.fallback,
        install=msgspec.convert(dict(install), Install) if install else None,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
