"""A model is replaced under load: what was lost, how long nothing came, and the latency before, during and after."""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any, Final, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks import subjects
from benchmarks.figures import percentile
from benchmarks.load import Clients, Report
from benchmarks.models import Model
from tests.brokers import Mosquitto

IN_FLIGHT: Final = 16
_BEFORE_S: Final = 2.5  # of load until the push
_AFTERMATH_S: Final = 0.5  # beyond the switch, still part of it
_WINDOW_S: Final = 0.1  # around the new model's first answer
_PATIENCE_S: Final = 60.0


@dataclass(frozen=True)
class Sample:
    """One answer: when it was complete (seconds, CLOCK_MONOTONIC), how long after its request, and a mark of what it
    says, which is another one when another model says it.
    """

    at_s: float
    took_ms: float
    mark: str


@dataclass(frozen=True)
class Course:
    """One swap under load: every answer, and when the new model was pushed and took over. `steady`: every answer of
    the same load without a swap, just before; without one it is empty.
    """

    path: str
    model: str
    samples: tuple[Sample, ...]
    pushed_s: float
    tried_s: float  # when its trial began
    switched_s: float
    lost: int
    steady: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Swap:
    """A course in figures. `during`: from the push until half a second after the new model took over.

    The gaps: the longest time without an answer at the switch (in the tenth of a second around the new model's first
    answer), in the whole load, in the same load without a swap, and in the middle one of that load's tenths of a
    second. What the load has without a swap too is the machine's.

    `new_ms` and `old_ms`: from the switch to the first answer of the new model, and to the last one of the old. The
    switch is when the daemon's word of it was heard, which it says just before: below 0, the answer came sooner than
    the word, by way of the broker.
    """

    path: str
    model: str
    lost: int
    switch_gap_ms: float
    gap_ms: float
    steady_gap_ms: float
    usual_gap_ms: float
    switch_s: float  # from the push to the new model's taking over
    new_ms: float
    old_ms: float
    p99_before_ms: float
    p99_during_ms: float
    p99_after_ms: float


@dataclass(frozen=True)
class Trial:
    """A candidate that is loaded and tried beside the live model: the latency before, and from the trial's beginning
    until the candidate took over. That of the transfer stands apart: the broker has 10 MB to hand on.
    """

    path: str
    model: str
    lost: int
    trial_s: float
    p99_before_ms: float
    p99_transfer_ms: float
    p99_trial_ms: float


def trial(course: Course) -> Trial:
    """Raises ValueError when one of the three parts has no answer."""
    return Trial(
        path=course.path,
        model=course.model,
        lost=course.lost,
        trial_s=course.switched_s - course.tried_s,
        p99_before_ms=_p99_ms(course.samples, 0, course.pushed_s),
        p99_transfer_ms=_p99_ms(course.samples, course.pushed_s, course.tried_s),
        p99_trial_ms=_p99_ms(course.samples, course.tried_s, course.switched_s),
    )


def median_trial(trials: Sequence[Trial]) -> Trial:
    """The same trial several times: medians, and all that was lost."""
    return Trial(
        path=trials[0].path,
        model=trials[0].model,
        lost=sum(one.lost for one in trials),
        trial_s=statistics.median(one.trial_s for one in trials),
        p99_before_ms=statistics.median(one.p99_before_ms for one in trials),
        p99_transfer_ms=statistics.median(one.p99_transfer_ms for one in trials),
        p99_trial_ms=statistics.median(one.p99_trial_ms for one in trials),
    )


def summary(course: Course) -> Swap:
    """Raises ValueError when one of the three parts has no answer, or none of them is the new model's."""
    end_s = course.switched_s + _AFTERMATH_S
    first_new_s, last_old_s = _turn_of_the_answers(course)
    return Swap(
        path=course.path,
        model=course.model,
        lost=course.lost,
        switch_gap_ms=_gap_ms(course.samples, *_around(first_new_s)),
        gap_ms=_gap_ms(course.samples),
        steady_gap_ms=_gap_ms(course.steady),
        usual_gap_ms=_usual_gap_ms(course.steady),
        switch_s=course.switched_s - course.pushed_s,
        new_ms=(first_new_s - course.switched_s) * 1000,
        old_ms=(last_old_s - course.switched_s) * 1000,
        p99_before_ms=_p99_ms(course.samples, 0, course.pushed_s),
        p99_during_ms=_p99_ms(course.samples, course.pushed_s, end_s),
        p99_after_ms=_p99_ms(course.samples, end_s, float("inf")),
    )


def median(swaps: Sequence[Swap]) -> Swap:
    """The same swap several times: medians of the latencies, the longest of all else, all that was lost."""
    return Swap(
        path=swaps[0].path,
        model=swaps[0].model,
        lost=sum(one.lost for one in swaps),
        switch_gap_ms=max(one.switch_gap_ms for one in swaps),
        gap_ms=max(one.gap_ms for one in swaps),
        steady_gap_ms=max(one.steady_gap_ms for one in swaps),
        usual_gap_ms=statistics.median(one.usual_gap_ms for one in swaps),
        switch_s=statistics.median(one.switch_s for one in swaps),
        new_ms=max(one.new_ms for one in swaps),
        old_ms=max(one.old_ms for one in swaps),
        p99_before_ms=statistics.median(one.p99_before_ms for one in swaps),
        p99_during_ms=statistics.median(one.p99_during_ms for one in swaps),
        p99_after_ms=statistics.median(one.p99_after_ms for one in swaps),
    )


def _p99_ms(samples: Sequence[Sample], from_s: float, to_s: float) -> float:
    took_ms = [sample.took_ms for sample in samples if from_s <= sample.at_s < to_s]
    if not took_ms:
        raise ValueError(f"no answer between {from_s:.2f} and {to_s:.2f} s: the load was too short")
    return percentile(took_ms, 0.99)


def _turn_of_the_answers(course: Course) -> tuple[float, float]:
    """When the new model's first answer came, and the old one's last: the new one's say what none before the push has
    said.
    """
    old = {sample.mark for sample in course.samples if sample.at_s < course.pushed_s}
    new_s = [sample.at_s for sample in course.samples if sample.mark not in old]
    if not new_s:
        raise ValueError("no answer is the new model's: the load was too short")
    return min(new_s), max(sample.at_s for sample in course.samples if sample.mark in old)


def _around(at_s: float) -> tuple[float, float]:
    return at_s - _WINDOW_S / 2, at_s + _WINDOW_S / 2


def _gap_ms(samples: Sequence[Sample], from_s: float = 0, to_s: float = float("inf")) -> float:
    """The longest time between two answers of which at least a part lies between the two moments."""
    pairs = itertools.pairwise(sample.at_s for sample in samples)
    return max((after - before for before, after in pairs if after >= from_s and before <= to_s), default=0) * 1000


def _usual_gap_ms(samples: Sequence[Sample]) -> float:
    """The median of the longest gaps of windows as long as that of a switch."""
    longest: dict[int, float] = {}
    for before, after in itertools.pairwise(sample.at_s for sample in samples):
        window = int(after / _WINDOW_S)
        longest[window] = max(longest.get(window, 0), after - before)
    return statistics.median(longest.values()) * 1000 if longest else 0


def over_http(
    model: Model, pushed: Path, clients: Clients, folder: Path, seconds: float, *, steady: bool = True
) -> Course:
    """A swap of `model` for another file while IN_FLIGHT connections ask it without a pause. `steady`: the load runs
    once without a swap before.
    """
    with _box(model, folder) as (box, broker):
        parts = subjects.oip_request(model)
        target = subjects.http_target(box.process.pid, str(box.socket), model, parts, folder)

        def load(times: Path) -> Report:
            return clients.http(target.where, target.request, IN_FLIGHT, seconds, times)

        return _swapped("HTTP unix", model, pushed, broker, load, folder, steady=steady)


def over_fast(model: Model, pushed: Path, clients: Clients, folder: Path, seconds: float) -> Course:
    """The same over the fast lane, through the daemon."""
    return _over_frames(model, pushed, clients, folder, seconds, direct=False)


def over_direct(model: Model, pushed: Path, clients: Clients, folder: Path, seconds: float) -> Course:
    """The same over the model's own socket: the clients connect again and send again what has no answer."""
    return _over_frames(model, pushed, clients, folder, seconds, direct=True)


def _over_frames(model: Model, pushed: Path, clients: Clients, folder: Path, seconds: float, *, direct: bool) -> Course:
    lane = folder / "fast.sock"
    with _box(model, folder, lane, direct=direct) as (box, broker):
        where = Path(box.model(model.name)["direct"]) if direct else lane
        target = subjects.fast_target(box.process.pid, where, model, folder)

        def load(times: Path) -> Report:
            return clients.fast(target.where, target.request, IN_FLIGHT, seconds, times)

        return _swapped("fast direct" if direct else "fast unix", model, pushed, broker, load, folder, steady=True)


def over_mqtt(
    model: Model, pushed: Path, clients: Clients, folder: Path, seconds: float, *, steady: bool = True
) -> Course:
    """A swap of `model` for another file while IN_FLIGHT QoS 1 messages are always outstanding."""
    with _box(model, folder) as (box, broker):
        topics = (f"{model.name}/in", f"{model.name}/out")
        target = subjects.mqtt_target(box.process.pid, broker.port, topics, model)

        def load(times: Path) -> Report:
            return clients.mqtt(broker.port, 1, topics, target.request, IN_FLIGHT, seconds, times)

        return _swapped("MQTT q1", model, pushed, broker, load, folder, steady=steady)


@contextlib.contextmanager
def _box(
    model: Model, folder: Path, fast: Path | None = None, *, direct: bool = False
) -> Iterator[tuple[Any, Mosquitto]]:
    with (
        subjects.broker(folder / "broker") as broker,
        subjects.edged(subjects.configuration([model], broker=broker, fast=fast, direct=direct)) as box,
    ):
        subjects.wait_connected(box)
        yield box, broker


def _swapped(
    path: str,
    model: Model,
    pushed: Path,
    broker: Mosquitto,
    load: Callable[[Path], Report],
    folder: Path,
    *,
    steady: bool,
) -> Course:
    times = folder / "times"
    before = load(times).faults if steady else 0
    undisturbed = _samples(times) if steady else ()
    with ThreadPoolExecutor(1) as pool, _Installer(broker.port, model, pushed) as installer:
        loading = pool.submit(load, times)
        time.sleep(_BEFORE_S)
        pushed_s = installer.push()
        tried_s = installer.until(lambda said: said["phase"] == "trial")
        switched_s = installer.until(lambda said: said["phase"] == "probation" or said["verdict"] is not None)
        report = loading.result()
        installer.until(lambda said: said["verdict"] is not None)
    lost = before + report.faults
    return Course(path, model.name, _samples(times), pushed_s, tried_s, switched_s, lost, undisturbed)


def _samples(times: Path) -> tuple[Sample, ...]:
    lines = (line.split() for line in times.read_text().splitlines())
    return tuple(Sample(float(at_s), float(took_ms), mark) for at_s, took_ms, mark in lines)


class _Installer:
    """Pushes the other version, and hears what becomes of it."""

    def __init__(self, port: int, model: Model, pushed: Path) -> None:
        self._model = model
        self._pushed = pushed
        self._said: Queue[tuple[float, dict[str, Any]]] = Queue()
        self._last: tuple[float, dict[str, Any]] | None = None
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def push(self) -> float:
        """When it was sent, by the monotonic clock."""
        self._client.subscribe(f"edged/bench/install/{self._model.name}", 1)
        at_s = time.monotonic()
        self._client.publish(f"edged/bench/models/{self._model.name}/push", self._pushed.read_bytes(), 1)
        return at_s

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> float:
        """When a status for which it is true came. Raises RuntimeError when the new version was not taken."""
        while self._last is None or not condition(self._last[1]):
            self._last = self._said.get(timeout=_PATIENCE_S)
        if self._last[1]["verdict"] not in (None, "active"):
            raise RuntimeError(f"the new version was not taken: {self._last[1]}")
        return self._last[0]

    def _heard(self, _client: object, _context: object, message: paho.MQTTMessage) -> None:
        said = json.loads(message.payload)
        if said["push"]["sha256"]:  # else retained, and about nothing yet
            self._said.put((time.monotonic(), said))
