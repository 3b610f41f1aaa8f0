"""`edged check`: every mistake of a configuration at once, or what it would run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edged.config.mistakes import ConfigErrors, Mistake

if TYPE_CHECKING:
    from edged.config.nodes import Line
    from edged.config.schema import Config, Model
    from edged.errors import Fault

HELP = "read a configuration and say every mistake, or what it would run"
EXAMPLES = """
edged check
edged check --config edged.yaml
edged check --config edged.yaml --json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration (default: this box's, /etc/edged/edged.yaml)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object: valid, file, mistakes, runs")


def run(args: argparse.Namespace) -> int:
    """0 for a valid configuration; ConfigErrors, which ends in 2, for any other."""
    from edged.config import load

    path = load.find(args.config)
    try:
        config = load.load(path)
        _rehearse(str(path), config)
    except ConfigErrors as errors:
        if not args.json:
            raise
        print(json.dumps(_answer(str(path), errors=errors), indent=2))
        return 2
    if args.json:
        print(json.dumps(_answer(str(path), config=config), indent=2))
    else:
        print(f"{path}: valid")
        for line in describe(config):
            print(line)
    return 0


def _rehearse(file: str, config: Config) -> None:
    """Starts every model once: whether a file is a model, and whether the steps fit it, shows only there."""
    from edged.config.load import line_of
    from edged.serving.rehearsal import rehearse

    faults = rehearse(config.models)
    if faults:
        raise ConfigErrors([_mistake(line_of(file, "models", name), name, fault) for name, fault in faults.items()])


def _mistake(line: Line, model: str, fault: Fault) -> Mistake:
    return Mistake(line.file, int(line), f"models.{model}", fault.message, fault.hint)


def _answer(file: str, errors: ConfigErrors | None = None, config: Config | None = None) -> dict[str, Any]:
    import msgspec

    mistakes = [] if errors is None else [msgspec.to_builtins(one) for one in errors.mistakes]
    answer = {"valid": errors is None, "file": file, "mistakes": mistakes}
    return answer if config is None else {**answer, "runs": runs(config)}


def runs(config: Config) -> dict[str, Any]:
    """What would run, without any secret."""
    return {
        "device": config.device,
        "broker": config.mqtt.url if config.mqtt else None,
        "sockets": [config.sockets.unix, *config.sockets.http],
        "models": [
            {"name": model.name, "file": model.file or None, "inputs": [one.topic for one in model.inputs]}
            for model in config.models
        ],
    }


def describe(config: Config) -> Iterator[str]:
    """What would run, line by line."""
    yield f"  device  {config.device}"
    if config.mqtt is None:
        yield "  broker  none"
    else:
        user = f" as {config.mqtt.username}" if config.mqtt.username else ""
        yield f"  broker  {config.mqtt.url}{user}"
    for socket in (config.sockets.unix, *config.sockets.http):
        yield f"  socket  {socket}"
    for model in config.models:
        yield from _model(model)
    if not config.models:
        yield "  model   none"


def _model(model: Model) -> Iterator[str]:
    yield f"  model   {model.name}: {model.file or 'waits for its first push'}"
    for one in model.inputs:
        result = model.output.topic or f"models/{model.name}/result"
        yield f"          {one.topic} (QoS {one.qos}, {one.form.format}) -> {result}"
