"""Pushes on a connection of their own, in a thread of its own (RULES 18): `push.connection: own`.

Where `push.mqtt` names a broker of its own, it goes there, and what the operator's side reads is told there, too.

A message of 100 MiB takes a while, which must not be the loop's. The thread
hands one message to the loop and waits until it was taken before it reads on, so at most one is held here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from paho.mqtt.client import Client
from paho.mqtt.reasoncodes import ReasonCode

from edged.config import schema
from edged.config.addresses import Broker
from edged.topics import Tree
from edged.transports.mqtt.desk import DOCUMENT_MOST, Desk
from edged.transports.mqtt.dialer import Dialer, packet_limit
from edged.transports.mqtt.follower import Follower
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.notices import Notices
from edged.transports.mqtt.packets import Greeting, subscribe_arguments
from edged.transports.mqtt.subscriptions import Subscription
from edged.transports.mqtt.versions import Version
from edged.transports.mqtt.wanted import Wanted, step

# A fetch has four chunks under way. More would lie in front of a simple push, and be a broker's to hold.
_RECEIVE_MAXIMUM: Final = 8
_PUBLISH: Final = 16  # bytes of a PUBLISH besides topic and payload, at most
_ALONE_S: Final = 10.0
_NEEDS: Final = 4  # need lists that wait for the thread; what is still missing is asked for again


class Apart:
    """`line` is the connection; `drop(reason)` counts. What comes is the desk's. `courier` is told of the connection
    in the loop.
    """

    def __init__(
        self,
        settings: schema.Mqtt,
        tree: Tree,
        push: schema.Push,
        desk: Desk,
        *,
        courier: Callable[[bool], None],
        drop: Callable[[str], None],
    ) -> None:
        self._settings = push.mqtt or settings
        self._own = push.mqtt is not None
        self._tree = tree
        self._desk = desk
        self._courier = courier
        self._drop = drop
        self._limit = desk.max_size
        self._notices = Notices(tree, lambda reason: self.line.tell(drop, reason)) if self._own else None
        self.line: Final = Follower(self._dialer(), self, "pushes", own=self._own)
        self._needs: deque[bytes] = deque(maxlen=_NEEDS)
        # The thread's.
        self._client: Client | None = None
        self._said: Greeting | None = None
        self._asked = Wanted()
        self._unanswered: dict[int, list[str]] = {}
        self._useful = False

    def adopt(self) -> None:
        """The desk wants something else, or has another limit, which the broker is told with a new connection."""
        if self._desk.max_size != self._limit:
            self._limit = self._desk.max_size
            self.line.renew(self._dialer())
        self.line.nudge()

    def _dialer(self) -> Dialer:
        limit = packet_limit(max(self._limit, DOCUMENT_MOST))
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
        self.line.tell(self._courier, True)

    def _published(self, _client: Client, _data: Any, mid: int, _reason: ReasonCode, _properties: Any) -> None:
        if self._notices is not None:
            self._notices.confirmed(mid)

    def turn(self) -> None:
        wanted = self._desk.wanted
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
        self.line.tell(self._courier, False)
        return self._useful

    def message(self, came: Arrival) -> None:
        if (call := self._desk.call(came)) is not None:
            self.line.in_loop(call)

    def answered(self, mid: int, reasons: Sequence[ReasonCode]) -> None:
        refusals = [str(reason) if reason.is_failure else "" for reason in reasons]
        self._desk.answered(self._unanswered.pop(mid, ()), refusals)

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
                    again=not pushes,
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
