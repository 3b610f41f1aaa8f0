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

from benchmarks import cost, models, report
from benchmarks.cost import Plan
from benchmarks.figures import Row, medians, with_ratios
from benchmarks.load import Clients

_BUILD = Path(__file__).parent.parent / "build" / "bench"
_PARTS = ("http", "mqtt")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="What edged costs on this machine, beside onnxruntime alone and the scripts one writes by hand.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(_PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="one short run: a look, not a figure to keep")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--runs", type=int, help="medians of so many runs (default: 3)")
    parser.add_argument("--seconds", type=float, help="of load for each figure (default: 0.7)")
    parser.add_argument("--models", default=",".join(models.NAMES), help="(default: %(default)s)")
    parser.add_argument("--in-flight", default="1,4,16,64", help="(default: %(default)s)")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(_PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(_PARTS)}")
    if unknown := set(args.models.split(",")) - set(models.NAMES):
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(models.NAMES)}")
    args.parts = args.parts or list(_PARTS)
    args.runs = args.runs or (1 if args.quick else 3)
    args.seconds = args.seconds or (0.4 if args.quick else 0.7)
    return args


def _tell(run: str, what: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{run}{what}")
        sys.stderr.flush()


def machine() -> dict[str, object]:
    """What the figures depend on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
    }


def main() -> int:
    args = _arguments()
    began_s = time.monotonic()
    before = machine()
    made = [models.made(name, _BUILD) for name in args.models.split(",")]
    clients = Clients(_BUILD)
    plan = Plan(made, [int(count) for count in args.in_flight.split(",")], args.seconds)
    runs: list[list[Row]] = []
    bare_us: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name:
        folder = Path(name)
        for index in range(args.runs):
            tell = partial(_tell, f"run {index + 1} of {args.runs}: ")
            bare = cost.bare(plan)
            rows: list[Row] = []
            if "http" in args.parts:
                rows += cost.over_http(plan, clients, folder, tell)
            if "mqtt" in args.parts:
                for qos in (0, 1):
                    rows += cost.over_mqtt(plan, clients, folder, qos, tell)
            for model, value in bare.items():
                bare_us.setdefault(model, []).append(value)
            runs.append(with_ratios(rows, bare))
    _tell("", "")
    rows = medians(runs)
    bare = {model: statistics.median(values) for model, values in bare_us.items()}
    facts = {**before, "load_average_after": machine()["load_average"], "seconds": round(time.monotonic() - began_s)}
    if args.json:
        print(json.dumps({"machine": facts, "bare_us": bare, "rows": [dataclasses.asdict(row) for row in rows]}))
    else:
        print(f"{facts}\n\n{report.costs(rows, bare)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
