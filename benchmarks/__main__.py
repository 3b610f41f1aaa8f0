"""The benchmark: see README.md beside this file, and `scripts/bench --help`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import beside, cost, footprint, models, report, swap
from benchmarks.cost import Plan
from benchmarks.figures import Row, medians, with_ratios
from benchmarks.goals import Goal, Results, goals
from benchmarks.load import Clients

_BUILD: Final = Path(__file__).parent.parent / "build" / "bench"
_PARTS: Final = ("http", "fast", "grpc", "mqtt", "start", "memory", "idle", "beside", "swap", "trial")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="What edged costs on this machine, beside onnxruntime alone and the scripts one writes by hand.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(_PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="one short run, 1 and 16 in flight: for a look")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--chart", type=Path, metavar="PNG", help="draw the latency through a swap over HTTP")
    parser.add_argument("--runs", type=int, help="medians of so many runs (default: 3)")
    parser.add_argument("--seconds", type=float, help="of load for each figure (default: 0.7)")
    parser.add_argument("--models", default=",".join(models.NAMES), help="(default: %(default)s)")
    parser.add_argument("--in-flight", help="(default: 1,4,16,64)")
    args = parser.parse_args()
    args.models = args.models.split(",")
    for what, asked, known in (("part", args.parts, _PARTS), ("model", args.models, models.NAMES)):
        if unknown := set(asked) - set(known):
            parser.error(f"no {what} {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    args.parts = args.parts or list(_PARTS)
    args.runs = args.runs or (1 if args.quick else 3)
    args.seconds = args.seconds or (0.3 if args.quick else 0.7)
    args.in_flight = [int(count) for count in (args.in_flight or ("1,16" if args.quick else "1,4,16,64")).split(",")]
    return args


def _machine() -> dict[str, object]:
    """What the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    cpus = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return {
        "cpu": (cpus or [platform.machine()])[0] + (" with VNNI" if "vnni" in cpuinfo else " without VNNI"),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _tell(run: str, what: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{run}{what}")
        sys.stderr.flush()


def _costs(args: argparse.Namespace, made: list[models.Model], clients: Clients, folder: Path) -> Results:
    plan = Plan(made, args.in_flight, args.seconds)
    runs: list[list[Row]] = []
    bare_us: dict[str, list[float]] = {model.name: [] for model in made}
    for index in range(args.runs):
        tell = partial(_tell, f"run {index + 1} of {args.runs}: ")
        bare = cost.bare(plan)
        rows: list[Row] = []
        if "http" in args.parts:
            rows += cost.over_http(plan, clients, folder, tell)
        if "fast" in args.parts:
            rows += cost.over_fast(plan, clients, folder, tell)
        if "grpc" in args.parts:
            rows += cost.over_grpc(plan, clients, folder, tell)
        if "mqtt" in args.parts:
            for qos in (0, 1):
                rows += cost.over_mqtt(plan, clients, folder, qos, tell)
        runs.append(with_ratios(rows, bare))
        for model, value in bare.items():
            bare_us[model].append(value)
    return Results({model: statistics.median(values) for model, values in bare_us.items()}, medians(runs))


def _swaps(args: argparse.Namespace, model: models.Model, clients: Clients, folder: Path) -> list[swap.Swap]:
    seconds = 6 if args.quick else 8
    found = []
    for over in (swap.over_http, swap.over_fast, swap.over_direct, swap.over_mqtt):
        _tell("swap: ", over.__name__.replace("_", " "))
        courses = [over(model, model.other, clients, folder, seconds) for _ in range(args.runs)]
        if args.chart and over is swap.over_http:
            from benchmarks import chart  # needs much, and late: see makers.py

            chart.draw(courses[len(courses) // 2], args.chart)
        found.append(swap.median([swap.summary(one) for one in courses]))
    return found


def _trials(args: argparse.Namespace, model: models.Model, clients: Clients, folder: Path) -> list[swap.Trial]:
    found = []
    for what, over in (("HTTP", swap.over_http), ("MQTT", swap.over_mqtt)):
        _tell("10 MB on trial: ", f"over {what}")
        courses = [over(model, model.heavy, clients, folder, 6, steady=False) for _ in range(args.runs)]
        found.append(swap.median_trial([swap.trial(one) for one in courses]))
    return found


def _measured(args: argparse.Namespace, folder: Path) -> Results:
    made = [models.made(name, _BUILD) for name in args.models]
    tiny, clients = models.made("tiny", _BUILD), Clients(_BUILD)
    found = Results()
    if {"http", "fast", "grpc", "mqtt"} & set(args.parts):
        found = _costs(args, made, clients, folder)
    if "start" in args.parts:
        _tell("", "start")
        found = dataclasses.replace(found, starts_s=footprint.starts_s(tiny, folder, args.runs))
    if "memory" in args.parts:
        _tell("", "memory")
        peers = footprint.peers_memory(tiny, folder)
        found = dataclasses.replace(found, processes=footprint.memory(tiny, folder), peers_pss_bytes=peers)
    if "beside" in args.parts:
        image, seconds = models.made("image", _BUILD), 2 if args.quick else 5
        _tell("", "two models at once")
        runs = [beside.measured(tiny, image, clients, folder, seconds) for _ in range(args.runs)]
        found = dataclasses.replace(found, beside=beside.medians(runs))
    if "swap" in args.parts:
        found = dataclasses.replace(found, swaps=_swaps(args, tiny, clients, folder))
    if "trial" in args.parts:
        found = dataclasses.replace(found, trials=_trials(args, tiny, clients, folder))
    if "idle" in args.parts:
        seconds = 5 if args.quick else 60
        _tell("", f"idle for {seconds} s")
        found = dataclasses.replace(found, idle_percent=footprint.idle_percent(tiny, folder, seconds))
    _tell("", "")
    return found


def _document(results: Results, machine: dict[str, object]) -> dict[str, Any]:
    def told(goal: Goal) -> dict[str, Any]:
        return {**dataclasses.asdict(goal), "met": goal.met}

    return {"machine": machine, **dataclasses.asdict(results), "goals": [told(goal) for goal in goals(results)]}


def main() -> int:
    args = _arguments()
    began_s, busy = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        results = _measured(args, Path(folder))
    machine = {
        **_machine(),
        "load average before and after": f"{busy:.1f}, {os.getloadavg()[0]:.1f}",
        "runs": f"{args.runs} of {args.seconds:g} s for each figure, {time.monotonic() - began_s:.0f} s in all",
    }
    print(json.dumps(_document(results, machine)) if args.json else report.everything(results, machine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
