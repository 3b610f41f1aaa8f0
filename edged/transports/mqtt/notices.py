"""What the operator's side reads of this box, at the broker of pushes where that is another one (push.mqtt).

Retained states (`status`, `info`, `install/<model>`, `models/<model>/status`) as they are now, and again at each
connect, and the audit on `event`. They are told at the broker of everything else, too.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from paho.mqtt.client import Client

from edged.topics import Tree

_EVENTS: Final = 256  # that wait for the broker; the audit itself has all of them
_PUBLISH: Final = 16  # bytes of a PUBLISH besides topic and payload, at most


class Notices:
    """`retain` and `tell` are called in the loop, everything else in the connection's thread."""

    def __init__(self, tree: Tree, drop: Callable[[str], None]) -> None:
        self._tree = tree
        self._drop = drop
        self._lock = threading.Lock()
        self._states: dict[str, bytes] = {}
        self._due: dict[str, None] = {}
        self._events: deque[bytes] = deque()
        self._under_way: dict[int, bytes] = {}  # events that the broker has not confirmed, by packet identifier

    def retain(self, topic: str, payload: bytes) -> bool:
        """A state; whether it is one that is told there."""
        if not self._is_read(topic):
            return False
        with self._lock:
            self._states[topic] = payload
            self._due[topic] = None
        return True

    def tell(self, topic: str, payload: bytes) -> bool:
        """A message; whether it is one that is told there. The oldest goes when too many wait."""
        if topic != self._tree.event:
            return False
        with self._lock:
            self._events.append(payload)
            late = len(self._events) > _EVENTS
            if late:
                self._events.popleft()
        if late:
            self._drop("event_overflow")
        return True

    def _is_read(self, topic: str) -> bool:
        root = self._tree.root
        if topic in (self._tree.status, self._tree.info) or topic.startswith(f"{root}/install/"):
            return True
        return topic.startswith(f"{root}/models/") and topic.endswith("/status")

    # --- in the thread --------------------------------------------------------------------------------

    def up(self) -> None:
        """A connection: every state is due again, `online` last."""
        with self._lock:
            self._due = dict.fromkeys(topic for topic in self._states if topic != self._tree.status)
            if self._tree.status in self._states:
                self._due[self._tree.status] = None

    def publish(self, client: Client, packet_limit: int) -> None:
        """Hands over what is due."""
        with self._lock:
            states = [(topic, self._states[topic]) for topic in self._due]
            self._due.clear()
            events = list(self._events)
            self._events.clear()
        for topic, payload in states:
            if self._fits(topic, payload, packet_limit):
                client.publish(topic, payload, qos=1, retain=True)
        for payload in events:
            if self._fits(self._tree.event, payload, packet_limit):
                self._under_way[client.publish(self._tree.event, payload, qos=1).mid] = payload

    def _fits(self, topic: str, payload: bytes, packet_limit: int) -> bool:
        # One packet above the broker's limit would end the connection, each time.
        fits = len(topic.encode()) + len(payload) + _PUBLISH <= packet_limit
        if not fits:
            self._drop("output_too_large")
        return fits

    def confirmed(self, mid: int) -> None:
        self._under_way.pop(mid, None)

    def down(self) -> None:
        """What was not confirmed goes again, before what has come since."""
        with self._lock:
            self._events.extendleft(reversed(self._under_way.values()))
        self._under_way.clear()

    def leaving(self, client: Client) -> None:
        """The last word before a goodbye, which keeps the will from being said."""
        client.publish(self._tree.status, b"offline", qos=1, retain=True)
