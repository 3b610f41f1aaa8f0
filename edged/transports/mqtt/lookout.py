"""Looks whether this box's name is free at a broker before a connection is made, and waits while it is not.

On a connection of its own, under an identity of its own: two machines of one name often have one client
id as well (a copied card), and the second's first CONNECT with it would end the first's connection.
Blocking, for the thread that dials.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from edged.config.addresses import Broker
from edged.topics import Tree
from edged.transports.mqtt.dialer import Dialer
from edged.transports.mqtt.namesake import Machine, Namesake, first_look, signs
from edged.transports.mqtt.versions import Ending, Version
from edged.transports.mqtt.visit import Visit

_log = logging.getLogger(__name__)
_ANSWER_S: Final = 2.0  # for a SUBACK
_SETTLE_S: Final = 0.1  # retained messages follow the SUBACK; most brokers send them before the next one
_PACKET: Final = 2**20
_SPREAD_S: Final = 1.0  # of those who wait for one name
_PING_S: Final = 60.0
_TURN_S: Final = 0.5  # how soon the wait notices that it is to end


class Unreached(Exception):
    """There is no connection: why, and how the attempt ended where no CONNACK came."""

    def __init__(self, why: str, how: Ending | None) -> None:
        super().__init__(why)
        self.how = how


class Lookout:
    """For one kind of connection, that of `dialer`, and one name. `models`: those that the box was said to have there,
    when it was looked at last; `filters`: what it was said to listen to.
    """

    def __init__(self, dialer: Dialer, tree: Tree, own: Machine) -> None:
        self.name: Final = tree.device
        self._dialer = dialer
        self._tree = tree
        self._own = own
        self._stop = threading.Event()
        self.models: frozenset[str] = frozenset()
        self.filters: frozenset[str] = frozenset()

    def end(self) -> None:
        """Ends the wait, for good."""
        self._stop.set()

    def wait(self, broker: Broker, version: Version, tell: Callable[[str], None]) -> None:
        """Returns when the name is free, or nobody can say; `tell(host)` is called when another machine has it.

        Raises Unreached.
        """
        token = secrets.token_hex(4)
        identity = msgspec.structs.replace(
            self._dialer,
            client_id=f"{self._dialer.client_id}-{token}",
            session_s=0,
            packet_limit=_PACKET,
            will="",
            manual_ack=False,
        )
        namesake = Namesake(self._tree, self._own, time.monotonic())
        visit = Visit(
            identity,
            broker,
            version,
            lambda topic, payload, retained: namesake.heard(topic, payload, retained=retained, now_s=time.monotonic()),
        )
        try:
            self._look(visit, namesake, token, tell)
        except (Unreached, OSError):
            raise
        except Exception:  # noqa: BLE001  paho raises whatever it stumbles over; the connection itself will tell
            _log.debug("the broker sent what cannot be read", exc_info=True)
        finally:
            self.models, self.filters = namesake.models, namesake.filters
            visit.close()

    def _look(self, visit: Visit, namesake: Namesake, token: str, tell: Callable[[str], None]) -> None:
        why, how = visit.connect()
        if why and how is not Ending.CLOSED and (how is not None or visit.refusal is None):
            raise Unreached(why, how)
        # A broker that refuses this identity, or these topics, says nothing about the name; some do it by closing.
        if why or visit.subscribe(first_look(self._tree), _ANSWER_S) is None:
            return
        if not namesake.known:  # most brokers have sent what they retain before they answer the next packet
            listening = self._listen(visit)
            settled_s = time.monotonic() + _SETTLE_S
            while listening and not namesake.known and time.monotonic() < settled_s:
                listening = visit.turn()
        if namesake.there(time.monotonic()):
            self._listen(visit)
            self._while_there(visit, namesake, token, tell)

    def _listen(self, visit: Visit) -> bool:
        """Subscribes where a machine that is there is heard; False when the broker does not answer that."""
        return visit.subscribe(signs(self._tree), _ANSWER_S) is not None

    def _while_there(self, visit: Visit, namesake: Namesake, token: str, tell: Callable[[str], None]) -> None:
        told, ping_s = "", 0.0
        spread_s = random.uniform(0, _SPREAD_S)  # noqa: S311  not a secret
        free_s: float | None = None
        while not self._stop.is_set():
            now_s = time.monotonic()
            if not namesake.there(now_s):
                free_s = now_s if free_s is None else free_s
                if not told or now_s - free_s > spread_s:
                    return
            else:
                free_s = None
                if now_s >= ping_s:
                    ping_s = now_s + _PING_S
                    visit.publish(self._tree.request("ping"), msgspec.json.encode({"transaction": token}), qos=0)
                if namesake.seen.shown != told:
                    told = namesake.seen.shown
                    tell(told)
            if not visit.turn(_TURN_S):
                raise Unreached("the connection was lost while another machine was online under this name", None)
