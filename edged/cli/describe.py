"""`edged inspect`: what an ONNX file takes and gives, how it is made, and what it costs on this box.

The file is not called inspect.py, which is the standard library's (RULES 27).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edged.cli import named
from edged.cli.words import columns, plain, size
from edged.tensors import TensorSpec

HELP = "say what an ONNX file takes and gives, and what a run costs on this box"
EXAMPLES = """
edged inspect digits.onnx
edged inspect digits.onnx --threads 2 --json
"""

_ROWS: Final = 16  # batch.max's default: what the daemon would try to stack


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE.onnx", type=Path)
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of a run (default: 1, as the daemon)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    # A run is onnxruntime's C++ and hears no KeyboardInterrupt: Ctrl-C ends the command at once instead.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    named.check(args.file)
    found = inspect(args.file, threads=max(1, args.threads))
    print(json.dumps(found, indent=2) if args.json else "\n".join(_report(found)))
    return 0


def inspect(file: Path, *, threads: int) -> dict[str, Any]:
    """Everything `edged inspect` says. Raises EdgedError not_a_model, unsupported or over_memory."""
    from edged.worker import graph
    from edged.worker.session import Model

    parts = graph.read(file)
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    model = Model.open(file, threads=threads)
    cost = model.measure(batch_max=_ROWS)
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "sha256": sha256,
        "producer": parts.producer,
        "opset": parts.opset,
        "inputs": [_tensor(spec) for spec in model.signature.inputs],
        "outputs": [_tensor(spec) for spec in model.signature.outputs],
        "operators": parts.operators,
        "weights": parts.weights,
        "external_data": parts.external,
        "quantization": parts.quantization,
        "providers": list(model.providers),
        "threads": threads,
        "run_ms": round(cost.run_s * 1000, 4) if cost.run_s else None,
        "batching": {"rows": cost.batch_max, "gain": cost.gain},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    """As the metadata over HTTP; `axes` has the names of free axes, `json` and `optional` stand where they are true."""
    said = {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
    odd = {"axes": list(spec.axes), "json": spec.json, "optional": spec.optional}
    return said | {name: value for name, value in odd.items() if value}


def _report(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['file']}: {size(found['bytes'])}, opset {found['opset']}, made by {plain(found['producer']) or '?'}"
    yield f"  sha256        {found['sha256']}"
    tensors = [(kind, one) for kind in ("inputs", "outputs") for one in found[kind]]
    rows = [(kind[:-1], plain(one["name"]), one["datatype"], _shape(one)) for kind, one in tensors]
    yield from (f"  {line}" for line in columns([(f"{kind:12}", *rest) for kind, *rest in rows]))
    yield f"  operators     {_counts(found['operators'])}"
    yield f"  weights       {_counts(found['weights'])}"
    yield f"  quantization  {found['quantization']}"
    if found["external_data"]:
        yield "  beware        its weights lie in other files, which a push does not carry"
    yield f"  here          {', '.join(found['providers'])}, {found['threads']} thread(s)"
    yield f"  a run         {_run(found)}"


def _shape(tensor: dict[str, Any]) -> str:
    names = tensor.get("axes") or [""] * len(tensor["shape"])
    sizes = [str(size) if size >= 0 else plain(name) or "?" for size, name in zip(tensor["shape"], names, strict=True)]
    marks = [", items as JSON"] * tensor.get("json", False) + [", optional"] * tensor.get("optional", False)
    return f"[{', '.join(sizes)}]{''.join(marks)}"


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{count} {plain(name)}" for name, count in list(counts.items())[:8]]
    return ", ".join(shown + ([f"{len(counts) - 8} more"] if len(counts) > 8 else [])) or "none"


def _run(found: dict[str, Any]) -> str:
    if found["run_ms"] is None:
        return "not measured: it fails on made-up inputs, as models that look values up may"
    rows, gain = found["batching"]["rows"], found["batching"]["gain"]
    pays = (
        f"stacked, an input takes 1/{gain:g} of the CPU"
        if rows > 1
        else "stacking inputs does not pay, or is not possible"
    )
    return f"{found['run_ms']:.3g} ms; {pays}"
