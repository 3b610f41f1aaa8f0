"""`edged tune MODEL`: threads and batches, measured on this box, as a table and as lines for the configuration."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edged.cli import local
from edged.cli.words import columns, plain
from edged.config.mistakes import ConfigErrors
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.config.schema import Model
    from edged.serving.tuning import Failed, Measured, Row

HELP = "measure threads x batch of a model on this box, and say what to write into the configuration"
EXAMPLES = """
edged tune digits
edged tune digits --write && systemctl reload edged
edged tune detector.onnx --seconds 60 --json
"""

_HEAD: Final = ("threads", "batch", "inputs/s", "ms a batch", "CPU us an input")
_BUSY: Final = 0.5  # cores that others use, above which the figures are not this model's alone


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model of the configuration, or an .onnx file")
    parser.add_argument("--config", metavar="FILE", help="the configuration (default: this box's)")
    parser.add_argument(
        "--seconds", type=seconds, default=20.0, metavar="S", help="how long to measure, about (default: 20)"
    )
    parser.add_argument(
        "--write", action="store_true", help="write the lines into conf.d/tune-MODEL.yaml beside the configuration"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object: rows, failed, choice, yaml, beside")


def run(args: argparse.Namespace) -> int:
    from edged.config import load
    from edged.serving import tuning
    from edged.serving.cores import cores

    file = load.find(args.config)
    named = not args.model.endswith(".onnx") and "/" not in args.model
    if args.write and not named:
        raise EdgedError("bad_config", "--write is for a model of the configuration", "Name it instead of its file.")
    settings = _configured(file, args.model) if named else _bare(args.model)
    beside = _beside(args, settings.name if named else "")
    for line in beside.values():
        print(f"edged: {line}", file=sys.stderr)
    threads = tuning.threads_for(len(settings.cpus) or cores())
    found = tuning.measure(settings, threads, args.seconds)
    choice = tuning.choose(found.rows)
    text = lines(settings.name, choice)
    if args.json:
        print(json.dumps(_answer(settings, found, choice, text, beside), indent=2))
    else:
        print("\n".join(report(settings.name, found.rows, choice, text, found.failed)))
    if args.write:
        written = write(file, settings.name, choice, text)
        print(f"{written}: written. `systemctl reload edged` puts it into effect", file=sys.stderr)
    return 0


def lines(model: str, choice: Row) -> str:
    """What to write into the configuration."""
    return f"models:\n  {model}:\n    threads: {choice.threads}\n    batch: {{max: {choice.batch}}}\n"


def report(model: str, rows: Sequence[Row], choice: Row, text: str, failed: Sequence[Failed] = ()) -> Iterator[str]:
    """The table, what is missing in it and what it comes to, line by line."""
    table = [
        (str(row.threads), str(row.batch), f"{row.rate:,.0f}", f"{row.batch_ms:.3f}", f"{row.cpu_us:.1f}")
        for row in rows
    ]
    shown = columns([_HEAD, *table], right=frozenset(range(len(_HEAD))))
    yield shown[0]
    for row, line in zip(rows, shown[1:], strict=True):
        yield f"{line}  <" if row == choice else line
    for one in failed:
        yield f"{one.threads:>7}  {one.batch:>5}  {plain(one.fault.message)} [{one.fault.code}]"
    yield ""
    yield f"# {model}: the fewest threads within a tenth of the most inputs a second; with these the smallest batch"
    yield "# within a tenth of the least CPU an input"
    yield text.rstrip()


def write(file: Path, model: str, choice: Row, text: str) -> Path:
    """Puts the lines into conf.d/tune-MODEL.yaml; with a configuration that is not valid then, all is as before.

    Raises ConfigErrors, EdgedError when the file cannot be written or another drop-in overrules it.
    """
    from edged.config.load import load

    target = file.parent / "conf.d" / f"tune-{model}.yaml"
    try:
        target.parent.mkdir(exist_ok=True)
        before = target.read_text() if target.exists() else None
        _put(target, f"# By `edged tune {model} --write`, which writes it anew.\n{text}")
        try:
            found = next(one for one in load(file).models if one.name == model)
        except ConfigErrors:
            _put(target, before)
            raise
    except OSError as error:
        raise EdgedError("bad_config", f"{target}: {error.strerror}", "Write the lines where you may.") from error
    if (found.threads, found.batch.max) != (choice.threads, choice.batch):
        hint = "Files of conf.d count in the order of their names; take threads and batch out of the later one."
        raise EdgedError("bad_config", f"a later file of conf.d overrules {target.name}", hint)
    return target


def _put(target: Path, text: str | None) -> None:
    """The whole text or what was there; None: no file."""
    if text is None:
        target.unlink()
        return
    fresh = target.with_name(f".{target.name}.new")
    fresh.write_text(text)
    fresh.replace(target)


def _configured(file: Path, name: str) -> Model:
    from edged.config.load import load

    config = load(file)
    found = next((model for model in config.models if model.name == name), None)
    if found is None:
        known = ", ".join(model.name for model in config.models) or "none"
        hint = f"It has: {known}. A file is named with its .onnx."
        raise EdgedError("bad_config", f"{file} has no model {name}", hint)
    if not found.file:
        hint = "Name its .onnx file instead: the box keeps it below releases/ of its state directory."
        raise EdgedError("bad_config", f"{name} has no file in {file}: it waits for its first push", hint)
    return found


def _bare(name: str) -> Model:
    from edged.config import files
    from edged.config.load import from_models

    try:
        files.readable(Path(name))
    except ValueError as error:
        raise EdgedError("bad_config", str(error), "Name a model of the configuration, or an .onnx file.") from error
    return from_models({"model": name}).models[0]


def _beside(args: argparse.Namespace, model: str) -> dict[str, str]:
    """What else runs here and takes its share, in words, by what it is."""
    found = {}
    with contextlib.suppress(EdgedError, ConfigErrors):
        local.connect(argparse.Namespace(socket=None, config=args.config), timeout_s=5).get("/edged/status")
        serves = f", and may serve {model}" if model else ""
        found["daemon"] = f"the daemon is running{serves}: stop it for the figures of this model alone"
    load = os.getloadavg()[0]
    if load > _BUSY:
        found["load"] = f"other programs use {load:.1f} of {os.cpu_count()} cores: the figures are what they leave"
    return found


def seconds(text: str) -> float:
    """A number above 0; what else there is, argparse says."""
    found = float(text)
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return found


def _answer(settings: Model, found: Measured, choice: Row, text: str, beside: dict[str, str]) -> dict[str, Any]:
    import msgspec

    from edged.errors import as_json

    return {
        "model": settings.name,
        "file": settings.file,
        "rows": [msgspec.to_builtins(row) for row in found.rows],
        "failed": [{"threads": one.threads, "batch": one.batch, **as_json(one.fault)} for one in found.failed],
        "choice": msgspec.to_builtins(choice),
        "yaml": text,
        "beside": beside,
    }
