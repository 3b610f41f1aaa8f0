"""Every counter of the daemon: what became of inputs, how long answers took, and their Prometheus text.

Counted in plain dicts and lists in the event loop, so that an answer costs well under 1 us; the client
library only writes the text. docs/metrics.md is the page for users.
"""

from __future__ import annotations

import math
import platform
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

import msgspec
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from edged import __version__
from edged.observe import executions
from edged.observe.buckets import BOUNDS_S, BUCKETS_S, SPLIT
from edged.observe.executions import Ran, Served, Spent, Statistics
from edged.observe.facts import ModelFacts, MqttFacts
from edged.observe.resources import Resources

UNKNOWN: Final = ""  # counts inputs for names that are no model: senders choose those, so they are no labels
_NONE: Final = [0] * (len(BOUNDS_S) + 1)
_VERSIONS: Final = 16  # versions of one model with series of their own; older ones end, so that pushes do not add up


class Figures(msgspec.Struct, frozen=True):
    """One model's counts since the daemon started, and its answers over the last interval.

    `errors` are the requests whose outcome was not ok, `dropped` inputs by reason. `rate` is requests
    per second; p50 and p99 are seconds from arrival to answer, None when nothing was answered.
    """

    requests: int = 0
    errors: int = 0
    dropped: dict[str, int] = {}
    restarts: int = 0
    rate: float = 0.0
    p50_s: float | None = None
    p99_s: float | None = None


class _Tally:
    """The counters of one model."""

    def __init__(self) -> None:
        self.outcomes: defaultdict[tuple[str, str], int] = defaultdict(int)  # (version, outcome)
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)  # the same
        self.executed: defaultdict[str, executions.Tally] = defaultdict(executions.Tally)  # version
        self.dropped: defaultdict[str, int] = defaultdict(int)
        self.restarts = 0
        self.ended = [0, 0]  # requests and errors of versions whose series have ended
        self.ended_s = 0.0  # that their answers took
        self.buckets = [0] * (len(BOUNDS_S) + 1)

    def totals(self) -> tuple[int, int]:
        """Requests and errors since the start."""
        ok = sum(count for (_, outcome), count in self.outcomes.items() if outcome == "ok")
        requests = sum(self.outcomes.values())
        return self.ended[0] + requests, self.ended[1] + requests - ok

    def end_old_versions(self) -> None:
        versions = list(dict.fromkeys(version for version, _ in self.outcomes))
        for key in [key for key in self.outcomes if key[0] in versions[:-_VERSIONS]]:
            count = self.outcomes.pop(key)
            self.ended[0] += count
            seconds = self.seconds.pop(key)
            self.ended[1] += count if key[1] != "ok" else 0
            self.ended_s += seconds if key[1] == "ok" else 0.0
        for version in [version for version in self.executed if version not in versions[-_VERSIONS:]]:
            del self.executed[version]

    def answered_s(self) -> float:
        """What all answers took, from arrival."""
        return self.ended_s + sum(seconds for (_, outcome), seconds in self.seconds.items() if outcome == "ok")

    def spent(self, version: str, *, ok: bool) -> Spent:
        """The requests that a version answered, or that failed while it was to answer."""
        keys = [key for key in self.outcomes if key[0] == version and (key[1] == "ok") is ok]
        return Spent(sum(self.outcomes[key] for key in keys), round(sum(self.seconds[key] for key in keys) * 1e9))


class _Mark(msgspec.Struct, frozen=True):
    """The counters at one moment: requests and buckets by model."""

    at_s: float
    counts: dict[str, tuple[int, list[int]]]


class Metrics:
    """The daemon's counters. Every method is for the event loop's thread."""

    def __init__(self, models: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tallies = _Tallies({name: _Tally() for name in (*models, UNKNOWN)})
        self._faults: defaultdict[str, int] = defaultdict(int)
        self._refused: defaultdict[str, int] = defaultdict(int)
        self._marks: deque[_Mark] = deque([self._mark()], maxlen=2)

    def add(self, model: str) -> None:
        """Another model: counted from 0."""
        self._tallies[model] = _Tally()

    def remove(self, model: str) -> None:
        """A model that is gone: its series end. What is still answered counts for no model."""
        del self._tallies[model]
        for mark in self._marks:
            mark.counts.pop(model, None)

    def answered(self, model: str, version: str, outcome: str, seconds: float) -> None:
        """One input has its final outcome: "ok" or an error code, `seconds` after it arrived.

        Only "ok" enters the histogram: refusals take no time and would make a full queue look quick.
        """
        tally = self._tallies[model]
        key = version, outcome
        tally.outcomes[key] += 1
        tally.seconds[key] += seconds
        if outcome == "ok":
            tally.buckets[bisect_left(BOUNDS_S, seconds)] += 1

    def served(self, model: str, version: str, served: Served) -> None:
        """Many inputs have their outcomes, which a process gave by itself."""
        tally = self._tallies[model]
        for outcome, count in served.outcomes.items():
            tally.outcomes[version, outcome] += count
            tally.seconds[version, outcome] += served.seconds if outcome == "ok" else 0.0
        for index, count in served.durations.items():
            tally.buckets[index] += count
        tally.executed[version].add_served(served, time.time_ns() // 1_000_000)

    def ran(self, model: str, version: str, ran: Ran) -> None:
        """A batch came back."""
        self._tallies[model].executed[version].add(ran, time.time_ns() // 1_000_000)

    def statistics(self, model: str, version: str) -> Statistics:
        """What one version has executed; all zero for one that has not."""
        tally = self._tallies[model]
        executed = tally.executed.get(version) or executions.Tally()
        return executed.statistics(tally.spent(version, ok=True), tally.spent(version, ok=False))

    def dropped(self, model: str, reason: str, count: int = 1) -> None:
        """Inputs that were given up; `reason` is one of a fixed set of words."""
        self._tallies[model].dropped[reason] += count

    def restarted(self, model: str) -> None:
        """A process of the model ended unasked and another takes its place."""
        self._tallies[model].restarts += 1

    def fault(self, where: str) -> None:
        """A fault of edged itself was caught at a boundary; `where` names the boundary."""
        self._faults[where] += 1

    def refused(self, code: str) -> None:
        """A signed document, or what stands in the place of one, was refused; `code` is one of errors.py."""
        self._refused[code] += 1

    def figures(self) -> dict[str, Figures]:
        """By model, over the last one to two intervals: for a status that may be asked at any moment."""
        return self._since(self._marks[0])

    def roll(self) -> dict[str, Figures]:
        """By model, over the time since the last call: for telemetry, which calls this once an interval."""
        found = self._since(self._marks[-1])
        for tally in self._tallies.values():
            tally.end_old_versions()
        self._marks.append(self._mark())
        return found

    def render(
        self, models: Sequence[ModelFacts] = (), resources: Resources | None = None, mqtt: MqttFacts | None = None
    ) -> bytes:
        """All of it in Prometheus' text format 0.0.4; `mqtt` None where no broker is configured."""
        return generate_latest(_Scrape([*self._counters(), *_gauges(models), *_used(models, resources), *_mqtt(mqtt)]))

    def _mark(self) -> _Mark:
        return _Mark(
            self._clock(), {name: (tally.totals()[0], tally.buckets.copy()) for name, tally in self._tallies.items()}
        )

    def _since(self, mark: _Mark) -> dict[str, Figures]:
        elapsed_s = max(self._clock() - mark.at_s, 1e-3)
        found = {}
        for name, tally in self._tallies.items():
            if name == UNKNOWN:
                continue
            before, buckets_before = mark.counts.get(name, (0, _NONE))
            requests, errors = tally.totals()
            recent = [now - then for now, then in zip(tally.buckets, buckets_before, strict=True)]
            found[name] = Figures(
                requests=requests,
                errors=errors,
                dropped=dict(tally.dropped),
                restarts=tally.restarts,
                rate=(requests - before) / elapsed_s,
                p50_s=_percentile(recent, 0.50),
                p99_s=_percentile(recent, 0.99),
            )
        return found

    def _counters(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "edged_inference_requests", "Inputs by their final outcome.", labels=["model", "version", "outcome"]
        )
        durations = HistogramMetricFamily(
            "edged_inference_duration_seconds", "From an input's arrival to its answer, ok only.", labels=["model"]
        )
        dropped = CounterMetricFamily("edged_dropped", "Inputs that were given up, by why.", labels=["model", "reason"])
        restarts = CounterMetricFamily(
            "edged_worker_restarts", "Processes of the model that ended unasked.", labels=["model"]
        )
        faults = CounterMetricFamily("edged_internal_faults", "Faults of edged itself, by boundary.", labels=["where"])
        for name, tally in self._tallies.items():
            for (version, outcome), count in tally.outcomes.items():
                requests.add_metric([name, version, outcome], count)
            for reason, count in tally.dropped.items():
                dropped.add_metric([name, reason], count)
            if name != UNKNOWN:
                restarts.add_metric([name], tally.restarts)
                durations.add_metric([name], _promised(tally.buckets), tally.answered_s())
        for where, count in self._faults.items():
            faults.add_metric([where], count)
        refused = CounterMetricFamily(
            "edged_documents_refused", "Wants, undos and trust documents that were refused.", labels=["code"]
        )
        for code, count in self._refused.items():
            refused.add_metric([code], count)
        yield from (requests, durations, dropped, restarts, faults, refused)


class _Tallies(dict[str, _Tally]):
    def __missing__(self, model: str) -> _Tally:
        return self[UNKNOWN]


class _Scrape(msgspec.Struct, frozen=True):
    """The families of one scrape, in the shape that the client library's writer wants."""

    families: list[Metric]

    def collect(self) -> list[Metric]:
        return self.families


def _promised(buckets: Sequence[int]) -> list[tuple[str, float]]:
    """The fine counts as Prometheus' cumulative buckets."""
    cumulative = list(accumulate(buckets))
    named = [(repr(bound), float(cumulative[index * SPLIT])) for index, bound in enumerate(BUCKETS_S)]
    return [*named, ("+Inf", float(cumulative[-1]))]


def _percentile(counts: Sequence[int], quantile: float) -> float | None:
    """The value below which `quantile` of the counted durations lie, between two bounds by geometric share."""
    total = sum(counts)
    if not total:
        return None
    rank = max(1, math.ceil(quantile * total))
    cumulative = list(accumulate(counts))
    index = bisect_left(cumulative, rank)  # the bucket that holds the value of this rank
    if index == 0 or index == len(BOUNDS_S):
        return BUCKETS_S[0] if index == 0 else BUCKETS_S[-1]
    low, high = BOUNDS_S[index - 1], BOUNDS_S[index]
    return low * math.pow(high / low, (rank - cumulative[index - 1]) / counts[index])


def _gauges(models: Sequence[ModelFacts]) -> Iterator[Metric]:
    build = GaugeMetricFamily("edged_build_info", "This edged, always 1.", labels=["version", "python"])
    build.add_metric([__version__, platform.python_version()], 1)
    yield build
    info = GaugeMetricFamily(
        "edged_model_info", "The version that answers, always 1.", labels=["model", "version", "sha256"]
    )
    for one in models:
        if one.version:
            info.add_metric([one.name, one.version, one.sha256], 1)
    yield info
    yield _gauge("edged_model_serving", "1 while the model answers.", {m.name: m.state == "serving" for m in models})
    yield _gauge(
        "edged_model_fallback",
        "1 while another provider runs the model than the first of its configuration.",
        {m.name: bool(m.fallback) for m in models},
    )
    yield _gauge("edged_queue_depth", "Inputs waiting in the model's lane.", {m.name: m.queue for m in models})
    yield _gauge("edged_in_flight", "Inputs handed to the model's process.", {m.name: m.in_flight for m in models})


def _used(models: Sequence[ModelFacts], resources: Resources | None) -> Iterator[Metric]:
    """What the models' processes and all of edged used at the last sample."""
    if resources is None:
        return
    by_model = {one.name: resources.processes.get(one.pid or 0) for one in models}
    live = {name: used for name, used in by_model.items() if used is not None}
    yield _gauge(
        "edged_model_memory_bytes",
        "Memory of the model's process; pages in common count by share.",
        {name: used.memory for name, used in live.items()},
    )
    cpu = CounterMetricFamily(
        "edged_model_cpu_seconds", "CPU time of the model's process; each begins at 0.", labels=["model"]
    )
    for name, used in live.items():
        cpu.add_metric([name], used.cpu_s)
    yield cpu
    yield GaugeMetricFamily("edged_memory_bytes", "Memory of all of edged's processes.", value=resources.tree.memory)


def _mqtt(mqtt: MqttFacts | None) -> Iterator[Metric]:
    if mqtt is None:
        return
    yield GaugeMetricFamily("edged_mqtt_connected", "1 while the broker answers.", value=mqtt.connected)
    yield CounterMetricFamily("edged_mqtt_reconnects", "Connections after the first.", value=mqtt.reconnects)
    yield CounterMetricFamily("edged_mqtt_published", "Messages handed to the broker.", value=mqtt.published)
    downgraded = "Messages of QoS 1 that went at QoS 0, as there was no room to wait for the broker's word."
    yield CounterMetricFamily("edged_mqtt_downgraded", downgraded, value=mqtt.downgraded)
    yield GaugeMetricFamily("edged_mqtt_queued", "Messages that the broker has not confirmed.", value=mqtt.queued)
    stored = mqtt.outbox
    yield GaugeMetricFamily("edged_mqtt_outbox_messages", "Those of them on the disk.", value=stored.messages)
    yield GaugeMetricFamily("edged_mqtt_outbox_bytes", "What they take of the disk.", value=stored.bytes)
    yield GaugeMetricFamily("edged_mqtt_outbox_failed", "1 while none can be kept there.", value=bool(stored.fault))
    yield GaugeMetricFamily("edged_mqtt_outbox_unread", "Files of it that cannot be read now.", value=stored.aside)
    dropped = CounterMetricFamily(
        "edged_mqtt_dropped", "Messages that were not sent, and inputs refused as they came.", labels=["reason"]
    )
    for reason, count in mqtt.dropped.items():
        dropped.add_metric([reason], count)
    yield dropped


def _gauge(name: str, means: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, means, labels=["model"])
    for model, value in values.items():
        family.add_metric([model], value)
    return family
