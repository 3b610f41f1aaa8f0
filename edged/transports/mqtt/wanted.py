"""What the connection of pushes listens to: a value that the loop replaces whole and its thread reads. Pure.

Two kinds of topics: simple pushes, one a model, and documents, of which the set changes with every chunk that
came. A document's topic has a number that is another one each time it is asked for, so that one given up and
asked for again between two looks is seen to be new, and its retained message comes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from edged.config import schema
from edged.topics import TopicFilter, Tree, check_topic

AT_ONCE: Final = 8  # topics of one SUBSCRIBE: AWS IoT Core's limit


class Wanted(msgspec.Struct, frozen=True):
    """`pushes`: the model of each topic of simple pushes. `documents`: filters, and when each was asked for."""

    pushes: dict[str, str] = {}
    documents: dict[str, int] = {}
    patterns: tuple[TopicFilter, ...] = ()

    def serving(self, tree: Tree, models: Sequence[schema.Model]) -> Wanted:
        """Simple pushes of these models and no others."""
        # Exact filters: a wildcard gets no retained messages on RabbitMQ, and asks for other names' pushes.
        return msgspec.structs.replace(self, pushes={tree.push(model.name): model.name for model in models})

    def listening(self, filters: Iterable[str], number: int) -> Wanted:
        """These documents and no others; `number` is above all before. Raises ValueError for what is no filter."""
        documents, patterns = {}, []
        for one in sorted(filters):
            if "+" in one or "#" in one:
                patterns.append(TopicFilter.parse(one))
            else:
                check_topic(one)
            documents[one] = self.documents.get(one, number)
        return msgspec.structs.replace(self, documents=documents, patterns=tuple(patterns))

    def document(self, topic: str) -> bool:
        """Whether a message on `topic` is a document that is listened for."""
        return topic in self.documents or any(one.match(topic) is not None for one in self.patterns)


class Step(msgspec.Struct, frozen=True):
    """What to tell the broker, in this order, each in batches of one packet."""

    gone: list[list[str]]
    pushes: list[list[str]]
    documents: list[list[str]]


def step(before: Wanted, now: Wanted) -> Step:
    """From what was subscribed to, to what is wanted now."""
    renewed = [one for one, number in now.documents.items() if before.documents.get(one, number) != number]
    gone = [one for one in before.pushes if one not in now.pushes]
    gone += [one for one in before.documents if one not in now.documents]
    return Step(
        _batches(gone + renewed),
        _batches([one for one in now.pushes if one not in before.pushes]),
        _batches([one for one, number in now.documents.items() if before.documents.get(one) != number]),
    )


def _batches(every: Sequence[str]) -> list[list[str]]:
    return [list(every[start : start + AT_ONCE]) for start in range(0, len(every), AT_ONCE)]
