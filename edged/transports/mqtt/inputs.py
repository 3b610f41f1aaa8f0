"""Topic -> the models that take it: edged's own `infer` topics and the configured filters. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from edged.config import schema
from edged.topics import Ota, TopicFilter, Tree, on_wire
from edged.transports.mqtt.subscriptions import Subscription, covers, plan

_REMEMBERED: Final = 1024  # topics whose models are kept; sensors have few, ids are not kept
_LONGEST: Final = 512  # characters of one that is: those of sensors are short, and anybody may send one of 64 KiB


class Arrival(msgspec.Struct, frozen=True, eq=False):
    """One message as it came: `number` is its connection's, `identifiers` those of MQTT 5's subscriptions.

    `again`: the broker has sent it before, on an earlier connection of this session. `left_out`: so many bytes at the
    end of its payload, of one that is larger than any message may be. `version`: a user property, of a pushed model.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int
    number: int
    content_type: str = ""
    response_topic: str = ""
    correlation: bytes | None = None
    identifiers: tuple[int, ...] = ()
    again: bool = False
    left_out: int = 0
    version: str | None = None


class Target(msgspec.Struct, frozen=True):
    """One model that takes a topic: `form` is the index of its input entry, -1 for `infer`.

    `levels` are the named levels of a configured filter; `id` is the last level of infer/<id>;
    `identifier` is that of the subscription whose copy counts, 0 when there is only one copy.
    """

    model: str
    form: int
    levels: dict[str, str]
    id: str = ""
    identifier: int = 0


class Inputs:
    """What the models of this box listen to; `before`: what they listened to under the settings before.

    The plan has the topics of requests too: those to `groups` and to all boxes as if they were foreign ones,
    because a broker may forbid them.
    """

    def __init__(
        self,
        tree: Tree,
        models: Sequence[schema.Model],
        groups: Sequence[str] = (),
        before: Inputs | None = None,
    ) -> None:
        self._tree = tree
        self._prefix = f"{tree.root}/models/"
        self._own_trees = (f"{tree.root}/", f"{Ota(tree.base).root}/")
        self._names = {model.name for model in models}
        self._filters = [
            (model.name, form, TopicFilter.parse(one.topic), _wire(one))
            for model in models
            for form, one in enumerate(model.inputs)
        ]
        mine, *common = tree.requests(groups)
        own = [mine, *(name for model in models for name in (tree.infer(model.name), f"{tree.infer(model.name)}/+"))]
        foreign = [(_wire(one), one.qos) for model in models for one in model.inputs]
        foreign += [(wire, 1) for wire in common]  # last: a broker that forbids one may close the connection over it
        self.plan = plan(own, foreign)
        self.own: tuple[Subscription, ...] = self.plan[: len(own)]
        self.foreign: tuple[Subscription, ...] = self.plan[len(own) :]
        self._known: dict[str, tuple[Target, ...]] = {}
        self._gone: dict[tuple[str, str], TopicFilter] = {}
        if before is not None:
            self._gone = {key: one for key, one in before.entries().items() if key not in self.entries()}

    def entries(self) -> dict[tuple[str, str], TopicFilter]:
        """Every filter that is or was listened to, by model and text."""
        own = [(name, TopicFilter.parse(self._tree.infer(name) + leaf)) for name in self._names for leaf in ("", "/+")]
        named = [*own, *((name, one) for name, _, one, _ in self._filters)]
        return self._gone | {(name, one.text): one for name, one in named}

    def orphans(self, topic: str) -> list[Target]:
        """Whose input a topic was, when it is nobody's now: the broker may send some before it has heard of it."""
        found = {}
        for (model, _), one in self._gone.items():
            if one.match(topic) is not None:
                last = topic.rpartition("/")[2]
                found[model] = Target(model, -1, {}, last if topic == f"{self._tree.infer(model)}/{last}" else "")
        return list(found.values())

    def targets(self, topic: str, identifiers: Iterable[int] = ()) -> list[Target]:
        """Who takes a message. Each model once, by its first entry that matches.

        Of several copies of one message, one a matching subscription, each model takes exactly one.
        """
        every = self._known.get(topic)
        if every is None:
            every = self._find(topic)
            if len(topic) <= _LONGEST and not any(one.id for one in every):
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[topic] = every
        told = set(identifiers)
        return [one for one in every if not told or not one.identifier or one.identifier in told]

    def _find(self, topic: str) -> tuple[Target, ...]:
        found = {}
        if topic.startswith(self._prefix):
            model, _, leaf = topic[len(self._prefix) :].partition("/")
            verb, _, last = leaf.partition("/")
            if model in self._names and verb == "infer" and "/" not in last:
                found[model] = Target(model, -1, {}, last, self._identifier(topic))
        for model, form, one, wire in self._filters:
            levels = one.match(topic)
            if levels is not None and model not in found and self._reaches(one.wire, topic):
                found[model] = Target(model, form, levels, "", self._identifier(wire))
        return tuple(found.values())

    def _reaches(self, wire: str, topic: str) -> bool:
        """A wildcard such as `#` does not reach into edged's own trees, or results and releases would become inputs."""
        return not any(topic.startswith(own) and not wire.startswith(own) for own in self._own_trees)

    def _identifier(self, wire: str) -> int:
        return next((one.identifier for one in self.plan if covers(one.filter, wire)), 0)


def _wire(entry: schema.Input) -> str:
    """What the broker is asked for."""
    return on_wire(entry.topic, entry.share)


def answerable(tree: Tree, topic: str) -> str:
    """Why `topic` is no response topic, "" when it is one: nothing that boxes read or state themselves."""
    if not topic or "+" in topic or "#" in topic or "\x00" in topic or topic.startswith("$"):
        return "a response topic has no wildcard and does not start with $"
    reason = tree.claimed(topic)
    return f"the response topic {reason}" if reason else ""
