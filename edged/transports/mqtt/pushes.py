"""Pushed models and signed documents come on a connection of their own, in a thread of its own (RULES 18, 20).

Where `push.mqtt` names a broker of its own, it goes there, and what the operator's side reads is told there, too.

A message of 100 MiB keeps paho busy for 400 ms (measured), which must not be the loop's. The thread
hands one message to the loop and waits until it was taken before it reads on, so at most one is held here.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from paho.mqtt.client import Client
from paho.mqtt.reasoncodes import ReasonCode

from edged.config import schema
from edged.config.addresses import Broker
from edged.errors import Fault, fault
from edged.topics import Ota, Tree
from edged.transports.mqtt.dialer import Dialer, packet_limit
from edged.transports.mqtt.follower import Follower
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.notices import Notices
from edged.transports.mqtt.packets import Greeting, subscribe_arguments
from edged.transports.mqtt.subscriptions import Subscription
from edged.transports.mqtt.versions import Version
from edged.transports.mqtt.wanted import Wanted, step

DOCUMENT_MOST: Final = 4 * 2**20  # bytes; the largest chunk that a release may be cut into (delivery/documents.py)
# A fetch has four chunks under way. More would lie in front of a simple push, and be a broker's to hold.
_RECEIVE_MAXIMUM: Final = 8
_PUBLISH: Final = 16  # bytes of a PUBLISH besides topic and payload, at most
_ALONE_S: Final = 10.0
_NEEDS: Final = 4  # need lists that wait for the thread; what is still missing is asked for again

OnDocument = Callable[[str, bytes, bool], None]
OnCourier = Callable[[bool], None]

_log = logging.getLogger(__name__)


def no_document(_topic: str, _payload: bytes, _retained: bool) -> None:  # noqa: FBT001  a callback's signature
    """Nobody asks for documents."""


def no_courier(_connected: bool) -> None:  # noqa: FBT001  a callback's signature
    """Nobody asks for documents."""


class Pushes:
    """Takes simple pushes, and is the courier of documents. `line` is the connection.

    Called in the loop: `on_push(model, payload, version, retained)`, `on_refused(model, fault)`,
    `on_document(topic, payload, retained)`, `on_courier(connected)`, `drop(reason)`.
    """

    def __init__(
        self,
        settings: schema.Mqtt,
        tree: Tree,
        models: Sequence[schema.Model],
        push: schema.Push,
        *,
        on_push: Callable[[str, bytes, str | None, bool], None],
        on_refused: Callable[[str, Fault], None],
        on_document: OnDocument,
        on_courier: OnCourier,
        drop: Callable[[str], None],
    ) -> None:
        self._settings = push.mqtt or settings
        self._own = push.mqtt is not None
        self._tree = tree
        self._max_size = push.max_size
        self._on_push = on_push
        self._on_refused = on_refused
        self._on_document = on_document
        self._on_courier = on_courier
        self._drop = drop
        self._notices = Notices(tree, lambda reason: self.line.tell(drop, reason)) if self._own else None
        self.line: Final = Follower(self._dialer(), self, "pushes", own=self._own)
        # Replaced in the loop, read in the thread.
        self._wanted = Wanted().serving(tree, models)
        self._numbers = itertools.count(1)
        self._needs: deque[bytes] = deque(maxlen=_NEEDS)
        # The thread's.
        self._client: Client | None = None
        self._said: Greeting | None = None
        self._asked = Wanted()
        self._unanswered: dict[int, list[str]] = {}
        self._useful = False
        self._told: set[str] = set()
        self.refused = 0  # subscriptions

    def adopt(self, models: Sequence[schema.Model], push: schema.Push) -> None:
        """Other models, or another limit, which the broker is told with a new connection. The thread follows."""
        self._wanted = self._wanted.serving(self._tree, models)
        if push.max_size != self._max_size:
            self._max_size = push.max_size
            self.line.renew(self._dialer())
        self.line.nudge()

    def _dialer(self) -> Dialer:
        limit = packet_limit(max(self._max_size, DOCUMENT_MOST))
        identity = f"{self._settings.client_id or f'edged-{self._tree.device}'}-ota"
        will = self._tree.status if self._own else ""
        return Dialer(self._settings, identity, 0, limit, _RECEIVE_MAXIMUM, will=will)

    # --- the data connection, as far as the way goes by it ---------------------------------------------

    def start(self, free: Callable[[], bool]) -> None:
        """To a broker of its own when the data connection was greeted: the name is looked up first. Where that takes
        too long, because no broker is there to ask, and nobody else has the name as far as known (`free`), without it.
        """
        if self._own:
            asyncio.get_running_loop().call_later(_ALONE_S, self._alone, free)

    def _alone(self, free: Callable[[], bool]) -> None:
        if free():
            self.line.start()

    def follow(self, broker: Broker, version: Version) -> None:
        """The data connection was greeted."""
        if self._own:
            self.line.start()  # the name is ours, if it was not before
        else:
            self.line.follow(broker, version)

    def hold(self) -> None:
        """The data connection is away."""
        if not self._own:
            self.line.hold()

    def retain(self, topic: str, payload: bytes) -> None:
        """A state of this box."""
        if self._notices is not None and self._notices.retain(topic, payload):
            self.line.nudge()

    def tell(self, topic: str, payload: bytes) -> None:
        """A message of this box."""
        if self._notices is not None and self._notices.tell(topic, payload):
            self.line.nudge()

    # --- the courier, in the loop (delivery/fetcher.py) ----------------------------------------------

    def listen(self, topics: frozenset[str]) -> None:
        """Documents on exactly these topics or filters from now on; one that is new brings its retained message.

        Raises ValueError for what is no filter.
        """
        self._wanted = self._wanted.listening(topics, next(self._numbers))
        self.line.nudge()

    def need(self, payload: bytes) -> None:
        """Says what is missing, at QoS 0; dropped while there is no connection."""
        if self.line.connected:
            self._needs.append(payload)
            self.line.nudge()

    # --- the duty, in the thread (follower.py) ---------------------------------------------------------

    def up(self, client: Client, said: Greeting) -> None:
        self._client, self._said = client, said
        self._asked = Wanted()
        self._unanswered.clear()
        self._needs.clear()
        self._useful = False
        if self._notices is not None:
            self._notices.up()
            client.on_publish = self._published
        self.line.tell(self._on_courier, True)

    def _published(self, _client: Client, _data: Any, mid: int, _reason: ReasonCode, _properties: Any) -> None:
        if self._notices is not None:
            self._notices.confirmed(mid)

    def turn(self) -> None:
        wanted = self._wanted
        if wanted is not self._asked:
            self._useful = self._useful or bool(self._asked.documents)  # what came had the loop ask for more
            self._subscribe(wanted)
        while self._needs:
            self._publish(self._needs.popleft())
        if self._notices is not None and self._client is not None and self._said is not None:
            self._notices.publish(self._client, self._said.packet_limit)

    def leaving(self, client: Client) -> None:
        if self._notices is not None:
            self._notices.leaving(client)

    def down(self) -> bool:
        self._client = None
        if self._notices is not None:
            self._notices.down()
        self.line.tell(self._on_courier, False)
        return self._useful

    def message(self, came: Arrival) -> None:
        wanted, size = self._wanted, len(came.payload) + came.left_out
        if (model := wanted.pushes.get(came.topic)) is not None:
            self._push(model, came, size)
        elif not wanted.document(came.topic):
            return
        elif size > DOCUMENT_MOST:
            self.line.tell(self._drop, "document_too_large")
        else:
            self.line.in_loop(self._on_document, came.topic, came.payload, came.retain)

    def answered(self, mid: int, reasons: Sequence[ReasonCode]) -> None:
        for topic, reason in zip(self._unanswered.pop(mid, ()), reasons, strict=False):
            line = self._line(topic)
            if not reason.is_failure:
                self._told.discard(line)
                continue
            self.refused += 1
            if line not in self._told:
                self._told.add(line)
                _log.warning(
                    "the broker does not let this box subscribe to %s (%s): its ACL lacks `%s`", topic, reason, line
                )

    def _line(self, topic: str) -> str:
        """What an ACL needs for this topic, as Mosquitto writes it (docs/brokers.md)."""
        ours = topic.startswith(f"{self._tree.root}/")
        return f"pattern readwrite {self._tree.base}/%u/#" if ours else f"pattern read {Ota(self._tree.base).root}/#"

    def _subscribe(self, wanted: Wanted) -> None:
        client, said = self._client, self._said
        if client is None or said is None:
            return
        steps, self._asked = step(self._asked, wanted), wanted
        for batch in steps.gone:
            client.unsubscribe(batch)
        for batches, pushes in ((steps.pushes, True), (steps.documents, False)):
            for batch in batches:
                arguments = subscribe_arguments(
                    [Subscription(topic, 1) for topic in batch],
                    said.version,
                    identifiers=False,
                    retain_as_published=pushes,
                )
                _, mid = client.subscribe(**arguments)
                if mid is not None:
                    self._unanswered[mid] = batch

    def _publish(self, need: bytes) -> None:
        if self._client is None or self._said is None:
            return
        # One packet above the broker's limit would end the connection, each time.
        if len(need) + len(self._tree.need) + _PUBLISH > self._said.packet_limit:
            self.line.tell(self._drop, "need_too_large")
            return
        self._client.publish(self._tree.need, need)

    def _push(self, model: str, came: Arrival, size: int) -> None:
        if size > self._max_size:
            text = f"the pushed file has {size} bytes; push.max_size is {self._max_size}"
            problem = fault("too_large", text, "Raise push.max_size, or push a smaller model.")
            self.line.in_loop(self._on_refused, model, problem)
            return
        self.line.in_loop(self._on_push, model, came.payload, came.version, came.retain)
