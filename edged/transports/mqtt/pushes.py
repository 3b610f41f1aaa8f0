"""The way that pushes come: a connection of their own (apart.py), or the data plane's (aboard.py). RULES 18."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

from edged.config import schema
from edged.config.addresses import Broker
from edged.topics import Tree
from edged.transports.mqtt.aboard import Aboard
from edged.transports.mqtt.apart import Apart
from edged.transports.mqtt.desk import DOCUMENT_MOST, Desk, Recipient
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.versions import Version


class Pushes:
    """Takes simple pushes, and is the courier of documents (delivery/courier.py). Everything is called in the loop.

    `publish` sends on the data plane's connection, `changed` is called when there may be something to ask for on it;
    `drop(reason)` counts.
    """

    def __init__(
        self,
        settings: schema.Mqtt,
        tree: Tree,
        models: Sequence[schema.Model],
        push: schema.Push,
        recipient: Recipient,
        *,
        publish: Callable[[Publication], None],
        changed: Callable[[], None],
        drop: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._tree = tree
        self._publish = publish
        self._changed = changed
        self._drop = drop
        self._numbers = itertools.count(1)
        self._desk = Desk(tree, recipient, drop)
        self._desk.adopt(models, push)
        self.aboard = Aboard(tree, self._desk, clock)
        self._apart = self._way(push)
        self._leaving: set[asyncio.Task[None]] = set()
        self._place: tuple[Broker, Version] | None = None  # of the data connection, while there is one
        self.aboard.switch(on=self._apart is None)

    def adopt(self, models: Sequence[schema.Model], push: schema.Push) -> None:
        """Other models, another limit, or another way: the next one begins before the last one ends."""
        self._desk.adopt(models, push)
        apart = self._apart
        if apart is not None and push.connection == "shared":
            self._apart = None
            self.aboard.switch(on=True)
            self._leaving.add(task := asyncio.create_task(apart.line.stop()))
            task.add_done_callback(self._leaving.discard)
        elif apart is not None:
            apart.adopt()
        elif push.connection == "own":
            self._apart = self._way(push)
            if self._apart is not None and self._place is not None:
                self._apart.follow(*self._place)
        self.aboard.look()
        self._changed()

    def _way(self, push: schema.Push) -> Apart | None:
        """A connection of their own, where they are to have one."""
        if push.connection == "shared":
            return None
        way: Apart

        def courier(up: bool) -> None:  # noqa: FBT001  a callback
            if up and way is self._apart and self.aboard.on:
                self.aboard.switch(on=False)
                self._changed()
            self._desk.connection(way, up)

        way = Apart(self._settings, self._tree, push, self._desk, courier=courier, drop=self._drop)
        return way

    # --- the data connection ------------------------------------------------------------------------------

    def start(self, free: Callable[[], bool]) -> None:
        """`free` says whether the box's name is nobody else's, as far as known."""
        if self._apart is not None:
            self._apart.start(free)

    def follow(self, broker: Broker, version: Version) -> None:
        """The data connection was greeted."""
        self._place = broker, version
        if self._apart is not None:
            self._apart.follow(broker, version)

    def hold(self) -> None:
        """The data connection is away."""
        self._place = None
        if self._apart is not None:
            self._apart.hold()

    def let_go(self) -> None:
        """The name is another machine's: its messages are not ours."""
        if self._apart is not None:
            self._apart.line.let_go()

    async def stop(self) -> None:
        if self._apart is not None:
            await self._apart.line.stop()
        await asyncio.gather(*self._leaving)

    # --- what is told -------------------------------------------------------------------------------------

    def retain(self, topic: str, payload: bytes) -> None:
        """A state of this box."""
        if self._apart is not None:
            self._apart.retain(topic, payload)

    def tell(self, topic: str, payload: bytes) -> None:
        """A message of this box."""
        if self._apart is not None:
            self._apart.tell(topic, payload)

    # --- the courier --------------------------------------------------------------------------------------

    def listen(self, topics: frozenset[str]) -> None:
        """Documents on exactly these topics or filters from now on; one that is new brings its retained message.

        Raises ValueError for what is no filter.
        """
        self._desk.wanted = self._desk.wanted.listening(topics, next(self._numbers))
        if self._apart is not None:
            self._apart.line.nudge()
        self.aboard.look()
        self._changed()

    def need(self, payload: bytes) -> None:
        """Says what is missing, at QoS 0; dropped while there is no connection."""
        if not self._desk.connected:
            return
        if self._apart is not None and not self.aboard.on:
            self._apart.need(payload)
        else:
            self._publish(Publication(self._tree.need, payload, 0))

    # --- facts --------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._desk.connected

    @property
    def url(self) -> str:
        """Of the broker that pushes come from, "" before there is one."""
        if self._apart is not None:
            return self._apart.line.url
        return "" if self._place is None else self._place[0].url

    @property
    def refused(self) -> int:
        """Subscriptions that a broker has refused."""
        return self._desk.refused

    def alive(self) -> bool:
        return self._apart is None or self._apart.line.alive()


def largest(push: schema.Push) -> int:
    """Bytes of the largest payload that comes on the data plane's connection."""
    if push.connection == "own":
        return 0
    # A simple push that no signature allows is not worth that it stands before the inputs.
    return DOCUMENT_MOST if push.require_signature else max(int(push.max_size), DOCUMENT_MOST)
