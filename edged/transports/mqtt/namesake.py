"""Whether another machine is online under this box's name, from what is heard on the box's own topics. No I/O.

- Nobody is where `status` does not say `online`, or where `info` says that it was this very machine.
- Whoever else says `online` is believed while there is a sign of life: an answer to a ping, telemetry,
  anything that is not a retained copy. A broker that died with its will unsent remembers `online` for
  ever, so that without a sign of life for a while nobody is there.
- Somebody who was there is gone when `status` has said so for some seconds: a restart keeps its name.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edged.topics import Tree, is_name, is_wire

GONE_S: Final = 5.0  # systemd's RestartSec=2 of our unit, a start, and room
_PATIENCE: Final = 1.5  # of the interval at which it says that it publishes telemetry
_AT_LEAST_S: Final = 5.0
_MODELS: Final = 1024
_FILTERS: Final = 1024


class Machine(msgspec.Struct, frozen=True):
    """Who this machine is, to others of the same name: `instance` stays the same over restarts."""

    instance: str
    host: str


class Other(msgspec.Struct, frozen=True):
    """What another machine says of itself in its retained `info`; older versions say nothing of it."""

    instance: str = ""
    host: str = ""
    telemetry_interval_s: float = 10.0

    @property
    def shown(self) -> str:
        """For people; it is text from elsewhere."""
        text = "".join(letter for letter in self.host[:64] if letter.isprintable())
        return text or "another machine"


def other(payload: bytes) -> Other:
    """Never raises: whatever cannot be read is somebody unknown."""
    try:
        return msgspec.json.decode(payload, type=Other)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Other()


class _Model(msgspec.Struct):
    name: str = ""


class _Box(msgspec.Struct):
    models: list[_Model] = []


def models(payload: bytes) -> frozenset[str]:
    """The models that an `info` names; none where it cannot be read, which is text from elsewhere."""
    try:
        found = msgspec.json.decode(payload, type=_Box).models
    except (msgspec.DecodeError, UnicodeDecodeError):
        return frozenset()
    return frozenset(one.name for one in found[:_MODELS] if is_name(one.name))


class _Listener(msgspec.Struct):
    subscriptions: list[str] = []


def filters(payload: bytes) -> frozenset[str]:
    """What an `info` says that the box listened to beside its own topics; what is no filter is left out."""
    try:
        found = msgspec.json.decode(payload, type=_Listener).subscriptions
    except (msgspec.DecodeError, UnicodeDecodeError):
        return frozenset()
    return frozenset(one for one in found[:_FILTERS] if is_wire(one))


class Namesake:
    """What is known so far. Times are of a monotonic clock, in seconds."""

    def __init__(self, tree: Tree, own: Machine, now_s: float) -> None:
        self._tree = tree
        self._own = own
        self._online = False
        self._waited = False
        self._sign_s = now_s
        self._gone_s = now_s
        self._heard: set[str] = set()
        self.seen: Other = Other()
        self.models: frozenset[str] = frozenset()  # that the box had
        self.filters: frozenset[str] = frozenset()  # that it listened to

    @property
    def known(self) -> bool:
        """Whether the broker has said all that it remembers of this name."""
        return {self._tree.status, self._tree.info} <= self._heard

    def heard(self, topic: str, payload: bytes, *, retained: bool, now_s: float) -> None:
        """A message on one of the topics of `listens`."""
        self._heard.add(topic)
        if not retained:
            self._sign_s = now_s
        if topic == self._tree.info:
            self.seen, self.models, self.filters = other(payload), models(payload), filters(payload)
        elif topic == self._tree.status:
            if self._online and payload != b"online":
                self._gone_s = now_s
            self._online = payload == b"online"

    def there(self, now_s: float) -> bool:
        """Whether to wait; once it was so, it stays so for a moment after the other has gone."""
        if self.seen.instance == self._own.instance:
            return False
        if not self._online:
            return self._waited and now_s - self._gone_s < GONE_S
        patience_s = _AT_LEAST_S + _PATIENCE * max(0.0, self.seen.telemetry_interval_s)
        self._waited = now_s - self._sign_s < patience_s
        return self._waited


def first_look(tree: Tree) -> list[str]:
    """The retained topics that say who is there: exact, as some brokers give retained ones to no wildcard."""
    return [tree.status, tree.info]


def signs(tree: Tree) -> list[str]:
    """Where a machine that is there is heard."""
    return [tree.telemetry, tree.response("ping")]
