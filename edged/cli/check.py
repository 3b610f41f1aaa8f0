"""`edged check`: every mistake of a configuration at once, or what it would run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edged.cli import local
from edged.config.mistakes import ConfigErrors, Mistake
from edged.errors import CODES, EdgedError
from edged.topics import Tree

if TYPE_CHECKING:
    from edged.config.schema import Config, Model, Mqtt
    from edged.delivery.documents import Trust

HELP = "read a configuration and say every mistake, or what it would run"
EXAMPLES = """
edged check
edged check --config edged.yaml
edged check --config edged.yaml --json
edged check --schema > edged.schema.json
edged check --reload && systemctl reload edged
"""
_NOT_TOLD: Final = ("output", "queue", "swap")  # keys of a model that its process does its work without
_TO_BLAME: Final = {"not_a_model": "file", "no_provider": "providers", "over_memory": "limits.memory"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration (default: this box's, /etc/edged/edged.yaml)"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object: valid, file, files, mistakes, runs, notes"
    )
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of the configuration, read nothing"
    )
    parser.add_argument(
        "--reload",
        action="store_true",
        help="ask the running daemon too whether it can take its own file, as it is now, without a restart",
    )


def run(args: argparse.Namespace) -> int:
    """0 for a valid configuration; ConfigErrors, which ends in 2, for any other."""
    from edged.config import json_schema, load

    if args.schema:
        print(json.dumps(json_schema.document(), indent=2))
        return 0
    path = load.find(args.config)
    try:
        config, trust, fallen = _tried(path)
    except ConfigErrors as errors:
        if not args.json:
            raise
        print(json.dumps(_answer(path, errors=errors), indent=2))
        return 2
    if args.reload:
        local.Daemon([Path(config.sockets.unix)]).post("/edged/reload/check")
        if not args.json:
            print("the running daemon can take its own file, as it is now, without a restart")
    if args.json:
        print(json.dumps(_answer(path, config=config, fallen=fallen), indent=2))
    else:
        print(f"{path}: valid")
        believed = [_believes(trust)] if trust else []
        for line in [*describe(config), *believed, *(f"  note    {note}" for note in [*notes(config), *fallen])]:
            print(line)
    return 0


def _believes(trust: Trust) -> str:
    roles = ((role, getattr(trust.roles, role)) for role in ("root", "release", "deploy"))
    return f"  trust   version {trust.version}: " + "; ".join(
        f"{role} {of.threshold} of {', '.join(of.keyids)}" for role, of in roles
    )


def _tried(file: Path) -> tuple[Config, Trust | None, list[str]]:
    """The configuration, whose signatures count, and what is to be known of the models that start.

    Raises ConfigErrors with every mistake: what is wrong in one place hides nothing that can be judged elsewhere.
    """
    from edged.cli import service
    from edged.config.load import examine
    from edged.delivery import anchor
    from edged.serving.rehearsal import rehearse

    config, mistakes = examine(file, service.environment(service.of(file)))
    if config is None:
        raise ConfigErrors(str(file), mistakes)
    trust = None
    faults, fallbacks = rehearse([model for model in config.models if _is_whole(model.name, mistakes)])
    mistakes += [_mistake(file, name, error) for name, error in faults.items()]
    try:
        trust = anchor.check(file, config)
    except ConfigErrors as errors:
        mistakes += errors.mistakes
    if mistakes:
        raise ConfigErrors(str(file), mistakes)
    return config, trust, [f"{name}: would run on the CPU: {why}" for name, why in fallbacks.items()]


def _is_whole(model: str, mistakes: Sequence[Mistake]) -> bool:
    """Whether the model's process would be told what is meant, so that what it says is no consequence of a mistake."""
    own = f"models.{model}"
    paths = [one.path for one in mistakes]
    its = [one for one in paths if one in ("", "models", own) or one.startswith((f"{own}.", "default"))]
    return all(one.startswith(tuple(f"{own}.{key}" for key in _NOT_TOLD)) for one in its)


def _mistake(file: Path, model: str, error: EdgedError) -> Mistake:
    """A model that does not start, at the key that is to blame where one is known."""
    from edged.config.load import line_of

    problem = error.fault
    key = error.where or _TO_BLAME.get(problem.code, "")
    places = [*([f"models.{model}.{key}", f"defaults.{key}"] if key else []), f"models.{model}"]
    line, place = next((line, place) for place in places if (line := line_of(file, place)) or place == places[-1])
    hint = "" if problem.hint == CODES["bad_config"].hint else problem.hint  # which is to do what was just done
    return Mistake(line.file, int(line), place, problem.message.removeprefix(f"{model}: "), hint)


def _answer(
    file: Path, errors: ConfigErrors | None = None, config: Config | None = None, fallen: Sequence[str] = ()
) -> dict[str, Any]:
    import msgspec

    from edged.config.load import files_of

    answer: dict[str, Any] = {"valid": errors is None, "file": str(file), "files": [str(one) for one in files_of(file)]}
    answer["mistakes"] = [] if errors is None else [msgspec.to_builtins(one) for one in errors.mistakes]
    return answer if config is None else {**answer, "runs": runs(config), "notes": [*notes(config), *fallen]}


def fast(config: Config) -> tuple[str, ...]:
    """Where the fast lane listens."""
    return config.sockets.fast.path if config.sockets.fast is not None else ()


def runs(config: Config) -> dict[str, Any]:
    """What would run, without any secret."""
    return {
        "device": config.device,
        "groups": list(config.groups),
        "mqtt": _broker(config.mqtt),
        "pushes": _broker(config.push.mqtt or config.mqtt),
        "sockets": [
            config.sockets.unix,
            *config.sockets.http,
            *config.sockets.grpc,
            *config.sockets.metrics,
            *fast(config),
        ],
        "models": [
            {
                "name": model.name,
                "file": model.file or None,
                "inputs": [
                    {"topic": one.topic, "qos": one.qos, "format": one.form.format, "share": one.share or None}
                    for one in model.inputs
                ],
                "result": _result(config, model),
                "direct": _direct(config, model),
            }
            for model in config.models
        ],
    }


def notes(config: Config) -> list[str]:
    """What is valid and not what somebody may expect of it."""
    return [
        f"{model.name}: output.from: all publishes no result of the direct lane ({_direct(config, model)})"
        for model in config.models
        if model.output.from_ == "all" and _direct(config, model)
    ]


def describe(config: Config) -> Iterator[str]:
    """What would run, line by line."""
    yield f"  device  {config.device}"
    if config.groups:
        yield f"  groups  {', '.join(config.groups)}"
    if config.mqtt is None:
        yield "  broker  none"
    else:
        yield f"  broker  {_where(config.mqtt)}"
    if config.push.mqtt is not None:
        yield f"  pushes  {_where(config.push.mqtt)}"
    for socket in (config.sockets.unix, *config.sockets.http):
        yield f"  socket  {socket}"
    for socket in config.sockets.grpc:
        yield f"  grpc    {socket}"
    for socket in config.sockets.metrics:
        yield f"  metrics {socket}"
    for socket in fast(config):
        yield f"  fast    {socket}"
    for model in config.models:
        yield f"  model   {model.name}: {model.file or 'waits for its first push'}"
        for one in model.inputs:
            share = f", shared by {one.share}" if one.share else ""
            yield f"          {one.topic} (QoS {one.qos}, {one.form.format}{share}) -> {_result(config, model)}"
        if direct := _direct(config, model):
            yield f"          direct lane: {direct}"
    if not config.models:
        yield "  model   none"


def _where(broker: Mqtt) -> str:
    return ", then ".join(broker.url) + (f" as {broker.username}" if broker.username else "")


def _broker(broker: Mqtt | None) -> dict[str, Any] | None:
    if broker is None:
        return None
    return {
        "url": list(broker.url),
        "username": broker.username or None,
        "client_id": broker.client_id,
        "base": broker.base,
    }


def _direct(config: Config, model: Model) -> str | None:
    """The model's own socket."""
    lane = config.sockets.fast
    return lane.of(model.name) if lane is not None and lane.direct else None


def _result(config: Config, model: Model) -> str | None:
    """Where results of the model's inputs go; None without a broker."""
    if config.mqtt is None:
        return None
    return model.output.topic or Tree(config.mqtt.base, config.device).result(model.name)
