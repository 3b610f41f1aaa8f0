"""`edged acl`: what this configuration needs of its broker, as lines for Mosquitto's `acl_file`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edged.topics import Ota, TopicFilter, Tree

if TYPE_CHECKING:
    from edged.config.schema import Config, Mqtt

HELP = "print the rights that this configuration needs, for the broker's acl_file"
EXAMPLES = """
edged acl
edged acl --config edged.yaml | sudo tee -a /etc/mosquitto/acl
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration (default: this box's, /etc/edged/edged.yaml)"
    )


def run(args: argparse.Namespace) -> int:
    """1 for a configuration without a broker: there is nothing to say then."""
    from edged.cli import service
    from edged.config import load

    path = load.find(args.config)
    config = load.load(path, service.environment(service.of(path)))
    if config.mqtt is None:
        print("# this configuration has no section mqtt: edged needs no rights at any broker")
        return 1
    print("\n".join(lines(config, config.mqtt)))
    return 0


def lines(config: Config, mqtt: Mqtt) -> Iterator[str]:
    """One section for each broker."""
    other = config.push.mqtt
    yield from _user(mqtt, config.device)
    yield from _own(config, mqtt)
    for requests in Tree(mqtt.base, config.device).requests(config.groups)[1:]:  # the first is its own
        yield f"topic read {requests}"
    if other is None:
        yield from _pushes(config, mqtt)
    yield from _data(config)
    yield "# Answers to requests with an MQTT 5 response topic go where each asks, for example:"
    yield "#topic write answers/#"
    if other is not None:
        yield ""
        yield from _user(other, config.device)
        yield from _own(config, other)
        yield from _pushes(config, other)


def _user(mqtt: Mqtt, device: str) -> Iterator[str]:
    yield f"# {', '.join(mqtt.url)}" + ("" if mqtt.username else ": the configuration names no username")
    yield f"user {mqtt.username or device}"


def _own(config: Config, mqtt: Mqtt) -> Iterator[str]:
    yield f"topic readwrite {Tree(mqtt.base, config.device).root}/#"


def _pushes(config: Config, mqtt: Mqtt) -> Iterator[str]:
    if config.push.trust:
        yield f"topic read {Ota(mqtt.base).root}/#"


def _data(config: Config) -> Iterator[str]:
    inputs = {TopicFilter.parse(one.topic).wire for model in config.models for one in model.inputs}
    outputs = {re.sub(r"\{[^{}]*\}", "+", model.output.topic) for model in config.models if model.output.topic}
    yield from (f"topic read {topic}" for topic in sorted(inputs))
    yield from (f"topic write {topic}" for topic in sorted(outputs))
