"""The soak: a box under mixed load, what is measured of it meanwhile, and what is held against it at the end."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests import models
from tests.box import DIGITS, Box
from tests.brokers import Mosquitto
from tests.ports import free_port
from tests.senders import MqttSender
from tests.soak.callers import LARGE, Curious, Fast, Http, Rude, Slow, Work, direct_path
from tests.soak.messengers import Asking, Grpc, Keeper
from tests.soak.processes import Folder, Sample, look, look_at_folders
from tests.soak.trend import Point, rises, second_half, trend

_LOOKS: Final = 24  # at least, for a slope of the second half
_HELD_S: Final = 30.0  # past the deadline of the last requests: until then a client's ring may be held for one of them
_KEPT_AS_BEFORE: Final = ("daemon", "fork server")
_CONFIGURATION: Final = """
device: box
mqtt: {{url: "{url}"}}
sockets: {{fast: {{path: {folder}/run/fast.sock, direct: true}}, grpc: "127.0.0.1:{port}"}}
telemetry: {{interval: 1s}}
push: {{require_signature: false, probation: {{time: 500ms, runs: 10, max_latency: 1000x}}}}
models:
  digits:
    file: {digits}
    inputs: [{{topic: cells/+cell/scan, format: values, field: pixels, time: ts}}]
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    postprocess: [softmax, argmax]
    output: {{topic: "cells/{{cell}}/digit"}}
  linear:
    file: {folder}/linear.onnx
    queue: {{size: 64}}
    inputs: [{{topic: rows/+row/in, qos: 0, format: raw, dtype: float32, columns: 4}}]
    output: {{topic: "rows/{{row}}/out", qos: 0, format: raw}}
  large: {{file: {folder}/large.onnx}}
"""


@dataclass(frozen=True)
class Plan:
    """How long, and what is no growth yet: so many bytes over the second half, of a process and of a folder."""

    seconds: float
    room: int
    pause_s: float = 0.02  # of each caller between two turns
    keeper_s: float = 2.0  # between two swaps
    prelude_s: float = 3.0  # the same load before anything is compared: what is opened once is open then


@dataclass
class Soaked:
    """What came of it."""

    samples: list[Sample] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    rest_before: list[Sample] = field(default_factory=list)
    rest_after: list[Sample] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(counts.get("sent", 0) for counts in self.counts.values())


@contextlib.contextmanager
def soaking(broker: Mosquitto, program: Sequence[str] = ()) -> Iterator[tuple[Box, int]]:
    """A running box with three models, and its port for gRPC. `program`: what is run instead of `python -m edged`."""
    with tempfile.TemporaryDirectory(prefix="edged-", dir="/tmp") as path:
        folder, port = Path(path), free_port()
        (folder / "linear.onnx").write_bytes(models.linear())
        (folder / "large.onnx").write_bytes(models.identity(shape=("batch", LARGE)))
        digits = DIGITS / "digits_v1_int8.onnx"
        one = Box(folder, _CONFIGURATION.format(url=broker.url, folder=folder, port=port, digits=digits))
        one.program = program or one.program
        try:
            one.start()
            one.wait(lambda: one.status()["daemon"]["mqtt"]["pushes_connected"])
            yield one, port
            assert one.stop() == 0, one.tail()
        finally:
            if one.process is not None and one.process.poll() is None:
                one.kill()


def soak(one: Box, broker: Mosquitto, port: int, plan: Plan) -> Soaked:
    """Runs the load and measures."""
    found = Soaked()
    _load(one, broker, port, plan, plan.prelude_s, "before", Soaked())
    found.rest_before = _at_rest(one)
    _load(one, broker, port, plan, plan.seconds, "during", found)
    found.rest_after = _at_rest(one)
    end_s = time.monotonic() + _HELD_S
    while list(_at_rest_more(found)) and time.monotonic() < end_s:
        found.rest_after = _at_rest(one)
    return found


def _load(one: Box, broker: Mosquitto, port: int, plan: Plan, seconds: float, name: str, found: Soaked) -> None:
    fast, direct = str(one.folder / "run" / "fast.sock"), direct_path(one, "digits")
    pause_s = plan.pause_s
    callers: list[Work] = [
        Http(one, "json", pause_s),
        Http(one, "linear", pause_s),
        Http(one, "large", 2 * pause_s),
        Http(one, "linear", 2 * pause_s, fresh=True),
        Fast(fast, "linear", 4 * pause_s),
        Fast(fast, "large", 8 * pause_s, ring=1 << 23),
        Fast(direct, "digits", 4 * pause_s, name="direct"),
        Fast(direct_path(one, "large"), "large", 8 * pause_s, ring=1 << 23, name="direct"),
        Slow(one, fast, 10 * pause_s),
        Slow(one, direct_path(one, "large"), 10 * pause_s),
        Rude(one, [fast, direct], 5 * pause_s),
        Curious(one, 20 * pause_s),
        Asking(broker.port, name, pause_s),
        Keeper(one, broker.port, plan.keeper_s),
    ]
    streams = [MqttSender(broker.port, f"{name}-{number}", window=8, pause_s=pause_s) for number in range(2)]
    grpc = Grpc(port, seconds, pause_s)
    with contextlib.ExitStack() as stack:
        for caller in callers:
            stack.enter_context(caller)
        for stream in streams:
            stack.enter_context(stream)
        stack.enter_context(grpc)
        _measure(one, callers, seconds, found)
    parts: list[Work | Grpc] = [*callers, grpc]
    for part in parts:
        found.counts[part.name] = dict(part.counts)
        found.faults += part.faults[:3]
        if part.unanswered and not isinstance(part, (Rude, Keeper)):
            found.faults.append(f"{part.name}: {part.unanswered} unanswered")
    found.counts["MQTT QoS 1"] = {"sent": sum(one.sent for one in streams), "lost": sum(one.lost for one in streams)}
    found.faults += [f"MQTT QoS 1: {one.missing[:5]} lost" for one in streams if one.lost]


def _measure(one: Box, callers: Iterable[Work], seconds: float, found: Soaked) -> None:
    end_s, every_s = time.monotonic() + seconds, max(0.25, seconds / 1200)
    looks = 0
    while time.monotonic() < end_s or looks < _LOOKS:  # of a busy machine fewer would be there in time
        if any(caller.faults for caller in callers):
            return
        looks += 1
        found.samples += look(one)
        found.folders += look_at_folders(one)
        time.sleep(every_s)


def _at_rest(one: Box) -> list[Sample]:
    """What is held when nobody asks for anything, once that changes no more."""
    last: list[tuple[str, int, int]] = []
    samples: list[Sample] = []

    def settled() -> bool:
        nonlocal last, samples
        time.sleep(0.5)
        samples = look(one)
        before, last = last, [(sample.role, sample.descriptors, sample.threads) for sample in samples]
        return last == before and all(model["state"] == "serving" for model in one.status()["models"])

    one.wait(settled, 60)
    return samples


def judge(found: Soaked, plan: Plan) -> list[str]:
    """What is wrong, one line each."""
    return [*found.faults, *_at_rest_more(found), *_growing(found, plan), *_rising(found, plan), *_fuller(found, plan)]


def _growing(found: Soaked, plan: Plan) -> Iterator[str]:
    for name, points in _series(found):
        if (slope := trend(points)) is not None and slope.grows(plan.room):
            kib = f"{slope.growth / 1024:.0f} KiB (at least {slope.least / 1024:.0f})"
            yield f"{name} grows by {kib} in the second half"


def _series(found: Soaked) -> Iterator[tuple[str, list[Point]]]:
    """What has to be level: the memory of each process that lives throughout, and of the workers that were replaced,
    those of one file with each other, of each what it had last.
    """
    grouped: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    for sample in found.samples:
        grouped[sample.role, sample.pid].append(sample)
    replaced: dict[str, list[Sample]] = defaultdict(list)
    for (role, _), samples in grouped.items():
        if len(samples) > 0.9 * len({one.at_s for one in found.samples}):
            yield f"{role}'s RSS", [(one.at_s, one.rss) for one in samples]
            yield f"{role}'s PSS", [(one.at_s, one.pss) for one in samples]
        else:
            replaced[role].append(samples[-1])
    for role, ends in replaced.items():
        yield f"{role}'s RSS, one after the other,", [(one.at_s, one.rss) for one in ends]


def _at_rest_more(found: Soaked) -> Iterator[str]:
    """Descriptors and threads when nobody asks: of the daemon's threads those of its pool may have come, which are six
    at most with two cores.
    """
    before = {_without_file(sample.role): sample for sample in found.rest_before}
    for sample in found.rest_after:
        one = before[_without_file(sample.role)]
        if sample.descriptors > one.descriptors:
            yield f"{sample.role} has {sample.descriptors} descriptors at rest, and had {one.descriptors}"
        pool = _POOL if sample.role == "daemon" else 0
        if sample.threads > one.threads + pool:
            yield f"{sample.role} has {sample.threads} threads at rest, and had {one.threads}"


def _rising(found: Soaked, plan: Plan) -> Iterator[str]:
    """The same while it works, of what lives long. Of a short run a quarter may have no quiet moment."""
    if plan.seconds < _LONG_S:
        return
    for role in _KEPT_AS_BEFORE:
        mine = [sample for sample in found.samples if sample.role == role]
        if (more := rises([(one.at_s, one.descriptors) for one in mine])) > _COME_AND_GO:
            yield f"{role} has {more:g} descriptors more at the least"
        if (more := rises([(one.at_s, one.threads) for one in mine])) > _POOL:
            yield f"{role} has {more:g} threads more at the least"


def _fuller(found: Soaked, plan: Plan) -> Iterator[str]:
    for name in ("state", "cache", "run"):
        mine = [one for one in found.folders if one.name == name]
        if (more := rises([(one.at_s, one.size) for one in mine])) > plan.room:
            yield f"the folder {name} has {more / 1024:.0f} KiB more at the least"
        if (more := rises([(one.at_s, one.files) for one in mine])) > _COME_AND_GO:
            yield f"the folder {name} has {more:g} files more at the least"


_POOL: Final = 6
_COME_AND_GO: Final = 8  # connections, a trial's channel and files: in a short load one of them is always there
_LONG_S: Final = 60.0  # a run of which each quarter has quiet moments


def _without_file(role: str) -> str:
    return " ".join(role.split()[:2]) if role.startswith("worker") else role


def told(found: Soaked, plan: Plan) -> str:
    """The figures, as a table that people read."""
    lines = [
        f"{name}: {', '.join(f'{what} {count}' for what, count in counts.items())}"
        for name, counts in found.counts.items()
    ]
    half = second_half([(one.at_s, 0) for one in found.samples])
    requests = found.requests / 2
    lines.append(f"{found.requests} requests; {len(half)} samples count, over {half[-1][0] - half[0][0]:.0f} s")
    for name, points in _series(found):
        if (slope := trend(points)) is None:
            continue
        middle = statistics.median(value for _, value in second_half(points)) / 1e6
        seen = slope.noticed(plan.room) / max(requests, 1)
        lines.append(
            f"{name} {middle:.1f} MB, second half {slope.growth / 1024:+.0f} KiB (at least {slope.least / 1024:+.0f}); "
            f"{seen:.1f} bytes a request would have been noticed"
        )
    for role in dict.fromkeys(sample.role for sample in found.samples):
        mine = [sample for sample in found.samples if sample.role == role]
        spans = [(min(values), max(values)) for values in ([s.descriptors for s in mine], [s.threads for s in mine])]
        lines.append(f"{role}: descriptors {spans[0][0]} to {spans[0][1]}, threads {spans[1][0]} to {spans[1][1]}")
    for name in dict.fromkeys(one.name for one in found.folders):
        ends = [one for one in found.folders if one.name == name]
        lines.append(f"folder {name}: {ends[0].size / 1e3:.0f} -> {ends[-1].size / 1e3:.0f} kB, {ends[-1].files} files")
    rest = [f"{one.role} {one.descriptors}/{one.threads}" for one in found.rest_after]
    lines.append(f"at rest, descriptors/threads: {', '.join(rest)}")
    return "\n".join(lines)
