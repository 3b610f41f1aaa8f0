"""The flat JSON of `edged/<device>/telemetry`. Pure; docs/metrics.md has the page for users.

Naming rule: `<what>_<unit>` in base units (seconds, bytes, celsius, ratio 0 to 1), `_total` for what only
grows; a model's figures begin with its name. A figure that does not exist now has no key: ThingsBoard
refuses null. No key of the box ends like a model's figure, so no model name can take its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from edged.observe.facts import ModelFacts, MqttFacts
from edged.observe.metrics import Figures
from edged.observe.resources import Process, Resources

Value = int | float | str
_DIGITS: Final = 6  # decimals of a float: microseconds, and a millionth of the CPU


def build(
    models: Iterable[ModelFacts],
    figures: Mapping[str, Figures],
    resources: Resources,
    mqtt: MqttFacts | None,
    *,
    ts_ms: int,
    seq: int,
) -> dict[str, Value]:
    """`figures` are metrics.roll(), of this interval; `seq` grows by one with each message."""
    found: dict[str, Value | None] = {"ts": ts_ms, "seq": seq, **_box(resources), **_mqtt(mqtt)}
    for one in models:
        process = resources.processes.get(one.pid or 0)
        for name, value in _model(one, figures.get(one.name, Figures()), process).items():
            found[f"{one.name}_{name}"] = value
    return {name: _rounded(value) for name, value in found.items() if value is not None}


def _box(resources: Resources) -> dict[str, Value | None]:
    box, tree = resources.box, resources.tree
    return {
        "cpu_ratio": box.cpu,
        "cpu_count": box.cores,
        "load_1m": box.load_1m,
        "memory_total_bytes": box.memory_total,
        "memory_available_bytes": box.memory_available,
        "disk_total_bytes": box.disk_total,
        "disk_free_bytes": box.disk_free,
        "network_received_bytes_total": box.network_received,
        "network_sent_bytes_total": box.network_sent,
        "temperature_celsius": box.temperature,
        "uptime_seconds": box.uptime_s,
        "edged_processes": tree.processes,
        "edged_used_bytes": tree.memory,
        "edged_cpu_used_seconds_total": tree.cpu_s,
    }


def _mqtt(mqtt: MqttFacts | None) -> dict[str, Value | None]:
    if mqtt is None:
        return {}
    return {
        "mqtt_broker": mqtt.url,
        "mqtt_reconnects_total": mqtt.reconnects,
        "mqtt_published_total": mqtt.published,
        "mqtt_downgraded_total": mqtt.downgraded,
        "mqtt_unconfirmed": mqtt.queued,
        "mqtt_outbox_messages": mqtt.outbox.messages,
        "mqtt_outbox_bytes": mqtt.outbox.bytes,
        "mqtt_discarded_total": sum(mqtt.dropped.values()),
        **{f"mqtt_discarded_{reason}_total": count for reason, count in mqtt.dropped.items()},
    }


def _model(facts: ModelFacts, figures: Figures, process: Process | None) -> dict[str, Value | None]:
    return {
        "state": facts.state,
        "version": facts.version or None,
        "requests_total": figures.requests,
        "errors_total": figures.errors,
        "dropped_total": sum(figures.dropped.values()),
        **{f"dropped_{reason}_total": count for reason, count in figures.dropped.items()},
        "restarts_total": figures.restarts,
        "requests_per_second": figures.rate,
        "p50_seconds": figures.p50_s,
        "p99_seconds": figures.p99_s,
        "queue": facts.queue,
        "in_flight": facts.in_flight,
        "memory_bytes": process.memory if process else None,
        "cpu_seconds_total": process.cpu_s if process else None,
    }


def _rounded(value: Value) -> Value:
    return round(value, _DIGITS) if isinstance(value, float) else value
