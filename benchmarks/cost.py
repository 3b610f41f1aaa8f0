"""CPU time a request, over every path and beside what it is compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import subjects
from benchmarks.figures import Row
from benchmarks.load import Clients, Report
from benchmarks.models import Model
from benchmarks.processes import Meter
from benchmarks.subjects import Target

EDGED_UNIX: Final = "edged HTTP unix"
EDGED_TCP: Final = "edged HTTP tcp"
FASTAPI: Final = "fastapi HTTP tcp"
EDGED_FAST: Final = "edged fast unix"
EDGED_RING: Final = "edged fast ring"
EDGED_DIRECT: Final = "edged fast direct"
EDGED_DIRECT_RING: Final = "edged direct ring"
FLOOR: Final = "python unix"
ECHO: Final = "python echo unix"
C_ECHO: Final = "C echo unix"
EDGED_MQTT: Final = "edged MQTT q{qos}"
PAHO: Final = "paho MQTT q{qos}"
EDGED_GRPC: Final = "edged gRPC tcp"
BARE: Final = "onnxruntime"

_WORTH_A_RING: Final = 16 * 1024

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to measure, and how long: `seconds` of load for each figure, after a quarter of that to warm up."""

    models: list[Model]
    in_flight: list[int]
    seconds: float


def bare(plan: Plan) -> dict[str, float]:
    """CPU microseconds of each model's run in onnxruntime alone, of this run."""
    return {model.name: subjects.bare_run_us(model, plan.seconds) for model in plan.models}


def over_http(plan: Plan, clients: Clients, folder: Path, tell: Tell) -> Iterator[Row]:
    """edged on both of its sockets, and FastAPI: one after the other for each model and number in flight."""
    port = subjects.free_port()
    with contextlib.ExitStack() as stack:
        box = stack.enter_context(subjects.edged(subjects.configuration(plan.models, http_port=port)))
        assert box.process is not None
        for model in plan.models:
            peer_port = subjects.free_port()
            with subjects.peer("fastapi_raw.py", model.file, peer_port) as peer:
                parts, raw = subjects.oip_request(model), subjects.raw_request(model)
                targets = {
                    EDGED_UNIX: subjects.http_target(box.process.pid, str(box.socket), model, parts, folder),
                    EDGED_TCP: subjects.http_target(box.process.pid, str(port), model, parts, folder),
                    FASTAPI: subjects.http_target(peer, str(peer_port), model, raw, folder),
                }

                def load(target: Target, count: int, seconds: float) -> Report:
                    return clients.http(target.where, target.request, count, seconds)

                yield from _measured(plan, model, targets, load, tell)


def over_fast(plan: Plan, clients: Clients, folder: Path, tell: Tell) -> Iterator[Row]:
    """edged's fast lane, and its direct lane in a daemon of its own, for large tensors with the client's ring too, and
    the least that Python and C can do on a socket.
    """
    lane, echo, c_echo = folder / "fast.sock", folder / "echo.sock", folder / "c-echo.sock"
    with contextlib.ExitStack() as stack:
        box = stack.enter_context(subjects.edged(subjects.configuration(plan.models, fast=lane)))
        beside = folder / "direct.sock"
        direct = stack.enter_context(subjects.edged(subjects.configuration(plan.models, fast=beside, direct=True)))
        assert box.process is not None
        assert direct.process is not None
        python = stack.enter_context(subjects.peer("unix_raw.py", "-", echo))
        c = stack.enter_context(subjects.running([clients.echo(), str(c_echo)]))
        for model in plan.models:
            floor, own = folder / f"{model.name}.sock", Path(direct.model(model.name)["direct"])
            with subjects.peer("unix_raw.py", model.file, floor) as one:
                targets = {
                    EDGED_FAST: subjects.fast_target(box.process.pid, lane, model, folder),
                    EDGED_DIRECT: subjects.fast_target(direct.process.pid, own, model, folder),
                    FLOOR: subjects.fast_target(one, floor, model, folder),
                    ECHO: subjects.fast_target(python, echo, model, folder, echo=True),
                    C_ECHO: subjects.fast_target(c, c_echo, model, folder, echo=True),
                }
                if model.input_file.stat().st_size >= _WORTH_A_RING:
                    targets[EDGED_RING] = subjects.ring_target(targets[EDGED_FAST], model, folder)
                    targets[EDGED_DIRECT_RING] = subjects.ring_target(targets[EDGED_DIRECT], model, folder)

                def load(target: Target, count: int, seconds: float) -> Report:
                    ring = Path(target.answers) if target.answers else None
                    return clients.fast(target.where, target.request, count, seconds, ring=ring)

                yield from _measured(plan, model, targets, load, tell)


def over_grpc(plan: Plan, clients: Clients, folder: Path, tell: Tell) -> Iterator[Row]:
    """edged alone: what it is compared with is in no requirements file."""
    port = subjects.free_port()
    with subjects.edged(subjects.configuration(plan.models, grpc_port=port)) as box:
        assert box.process is not None
        for model in plan.models:
            target = subjects.grpc_target(box.process.pid, port, model, folder)

            def load(target: Target, count: int, seconds: float) -> Report:
                return clients.grpc(int(target.where), subjects.GRPC_PATH, target.request, count, seconds)

            yield from _measured(plan, model, {EDGED_GRPC: target}, load, tell)


def over_mqtt(plan: Plan, clients: Clients, folder: Path, qos: int, tell: Tell) -> Iterator[Row]:
    """edged and the paho script on one broker, whose own CPU time is told apart."""
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(subjects.broker(folder / "broker"))
        box = stack.enter_context(subjects.edged(subjects.configuration(plan.models, broker=broker, qos=qos)))
        assert box.process is not None
        for model in plan.models:
            topics, others = (
                (f"{model.name}/in", f"{model.name}/out"),
                (f"peer/{model.name}/in", f"peer/{model.name}/out"),
            )
            with subjects.peer("paho_raw.py", model.file, broker.port, qos, *others) as peer:
                mine = subjects.mqtt_target(box.process.pid, broker.port, topics, model)
                theirs = subjects.mqtt_target(peer, broker.port, others, model)
                targets = {EDGED_MQTT.format(qos=qos): mine, PAHO.format(qos=qos): theirs}

                def load(target: Target, count: int, seconds: float) -> Report:
                    topics = (target.where, target.answers)
                    return clients.mqtt(broker.port, qos, topics, target.request, count, seconds)

                yield from _measured(plan, model, targets, load, tell, broker.pid)


def _measured(
    plan: Plan,
    model: Model,
    targets: dict[str, Target],
    load: Callable[[Target, int, float], Report],
    tell: Tell,
    broker: int | None = None,
) -> Iterator[Row]:
    for count in plan.in_flight:
        for name, target in targets.items():
            tell(f"{name}: {model.name}, {count} in flight")
            load(target, count, plan.seconds / 4)
            meter = Meter.started(target.pid, *([] if broker is None else [broker]))
            report = load(target, count, plan.seconds)
            yield Row(
                subject=name,
                model=model.name,
                in_flight=count,
                cpu_us=meter.read_us(target.pid) / max(report.answers, 1),
                broker_us=None if broker is None else meter.read_us(broker) / max(report.answers, 1),
                rate=report.rate,
                p50_ms=report.p50_ms,
                p99_ms=report.p99_ms,
                faults=report.faults,
            )
