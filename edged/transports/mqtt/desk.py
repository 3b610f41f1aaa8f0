"""What becomes of what comes on the topics of pushes, whichever connection has brought it (RULES 18, 20)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from edged.config import schema
from edged.errors import Fault, fault
from edged.topics import Ota, Tree
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.wanted import Wanted

DOCUMENT_MOST: Final = 4 * 2**20  # bytes; the largest chunk that a release may be cut into (delivery/documents.py)

_log = logging.getLogger(__name__)


def _nobody(*_: object) -> None:
    """Nobody asks for documents."""


class Recipient(msgspec.Struct, frozen=True):
    """Delivery's, all in the loop: `push(model, payload, version, retained)`, `refused(model, fault)`,
    `document(topic, payload, retained)`, `courier(connected)`.
    """

    push: Callable[[str, bytes, str | None, bool], None]
    refused: Callable[[str, Fault], None]
    document: Callable[[str, bytes, bool], None] = _nobody
    courier: Callable[[bool], None] = _nobody


class Desk:
    """`drop(reason)` counts. `wanted` is replaced in the loop, and read wherever a message comes: also in a thread, as
    are `call` and `answered`.
    """

    def __init__(self, tree: Tree, recipient: Recipient, drop: Callable[[str], None]) -> None:
        self._tree = tree
        self._to = recipient
        self._drop = drop
        self._told: set[str] = set()
        self._up: set[object] = set()  # ways that have a connection
        self.wanted = Wanted()
        self.max_size = 0
        self.refused = 0  # subscriptions

    def adopt(self, models: Sequence[schema.Model], push: schema.Push) -> None:
        self.wanted = self.wanted.serving(self._tree, models)
        self.max_size = int(push.max_size)

    @property
    def connected(self) -> bool:
        return bool(self._up)

    def connection(self, way: object, up: bool) -> None:  # noqa: FBT001  called from a thread by its position
        """A way has a connection, or has it no more. Delivery has one as long as one of them has."""
        before = self.connected
        if up:
            self._up.add(way)
        else:
            self._up.discard(way)
        if self.connected != before:
            self._to.courier(self.connected)

    def call(self, came: Arrival) -> Callable[[], None] | None:
        """What the loop is to do about a message; None: nobody asked for it."""
        wanted, size = self.wanted, len(came.payload) + came.left_out
        model = wanted.pushes.get(came.topic)
        if model is None:
            if not wanted.document(came.topic):
                return None
            if size > DOCUMENT_MOST:
                return partial(self._drop, "document_too_large")
            return partial(self._to.document, came.topic, came.payload, came.retain)
        if size > self.max_size:
            text = f"the pushed file has {size} bytes; push.max_size is {self.max_size}"
            return partial(
                self._to.refused, model, fault("too_large", text, "Raise push.max_size, or push a smaller model.")
            )
        return partial(self._to.push, model, came.payload, came.version, came.retain)

    def answered(self, topics: Sequence[str], refusals: Sequence[str]) -> None:
        """The broker's word on subscriptions, "" for yes. What a right is missing for is said once."""
        for topic, refusal in zip(topics, refusals, strict=False):
            line = self.line(topic)
            if not refusal:
                self._told.discard(line)
                continue
            self.refused += 1
            if line not in self._told:
                self._told.add(line)
                text = "the broker does not let this box subscribe to %s (%s): its ACL lacks `%s`"
                _log.warning(text, topic, refusal, line)

    def line(self, topic: str) -> str:
        """What an ACL needs for this topic, as Mosquitto writes it (docs/brokers.md)."""
        ours = topic.startswith(f"{self._tree.root}/")
        return f"pattern readwrite {self._tree.base}/%u/#" if ours else f"pattern read {Ota(self._tree.base).root}/#"
