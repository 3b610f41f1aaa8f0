"""What the box says it is: its retained `info` document, and the line that systemd and the journal have. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from edged import __version__
from edged.config.schema import BASE, Config
from edged.observe.facts import ModelFacts
from edged.observe.status import Reloaded
from edged.topics import Tree, on_wire


def rules(config: Config) -> tuple[str, ...]:
    """What every status says of the box: `unsigned_ok` where a push needs no signature."""
    return () if config.push.require_signature else ("unsigned_ok",)


def info(
    config: Config, machine: Mapping[str, str], models: Iterable[ModelFacts], reload: Reloaded | None
) -> dict[str, object]:
    """The members of `info`, as docs/mqtt-api.md has them.

    `machine`: what tells this one from others of its name, and the versions that it runs with.
    """
    views = tuple(models)
    tree = Tree(config.mqtt.base if config.mqtt else BASE, config.device)
    fallback = ("fallback",) if any(one.fallback for one in views) else ()
    return {
        "edged": __version__,
        "device": config.device,
        **machine,
        "groups": config.groups,
        "models": [_model(one) for one in views],
        "inputs": {model.name: [entry.topic for entry in model.inputs] for model in config.models},
        "subscriptions": sorted({on_wire(one.topic, one.share) for model in config.models for one in model.inputs}),
        "outputs": {model.name: model.output.topic or tree.result(model.name) for model in config.models},
        "telemetry_interval_s": float(config.telemetry.interval),
        "flags": [*rules(config), *fallback],
        "reload": msgspec.to_builtins(reload) if reload else None,
    }


def _model(one: ModelFacts) -> dict[str, object]:
    found = {
        "name": one.name,
        "state": one.state,
        "version": one.version,
        "message_limit": one.message_limit,
    }
    said = {"direct": one.direct, "providers": one.providers, "fallback": one.fallback}
    return {**found, **{name: now for name, now in said.items() if now}}


def summary(models: Iterable[ModelFacts], device: str, namesake: str) -> str:
    """One line: every model's version and state. `namesake`: the machine that is online as `device`, "" for none."""
    words = [f"{one.name} {one.version} {one.state}".replace("  ", " ") for one in models]
    waits = f"; MQTT waits: {namesake} is online as {device}" if namesake else ""
    return (", ".join(words) or "no models") + waits
