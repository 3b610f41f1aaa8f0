"""Waits for what the boxes make of an order, and meanwhile sends pieces to those that ask, where nobody keeps them."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Container
from typing import Final, Self

from edged.config import schema
from edged.delivery.documents import Want
from edged.errors import EdgedError
from edged.fleet.answering import Answers
from edged.fleet.broker import Broker
from edged.fleet.outcome import Absences, Outcome, Patience, outcome
from edged.fleet.parcel import Parcel
from edged.fleet.upload import BACK, LOST
from edged.fleet.view import Counts
from edged.topics import Ota, is_name
from edged.transports.mqtt.retained import Heard, Lost, Put, Retained

_LOOK_S: Final = 0.5
_GRACE_S: Final = 30.0  # for a box that goes offline: it may be started again
_PATIENCE_S: Final = 10.0  # with a box that refuses the order: a good one may be under way to it still
_DEAF_S: Final = 15.0  # a box tells what it lacks after 5 s, and then ever more rarely
_DEAF: Final = "boxes wait for pieces, and no list of what they lack has come yet: may this user read %s?"
_BESIDE_S: Final = 0.01  # for the boxes' words, while the time goes to those that ask for pieces


class Server:
    """Answers the need lists of boxes with the pieces of one release. A context manager: its connection."""

    def __init__(self, mqtt: schema.Mqtt, parcel: Parcel, rate: float) -> None:
        """`rate`: pieces a second."""
        self._ota: Final = Ota(mqtt.base)
        self._filter: Final = f"{mqtt.base}/+/need"
        self._lost = False
        self.answers: Final = Answers(parcel)
        self._connection: Final = Retained(mqtt, f"edged-serve-{secrets.token_hex(4)}", self._hear, rate=rate)

    def __enter__(self) -> Self:
        self._connection.connect()
        self._connection.listen([self._filter], qos=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def deaf(self) -> str:
        """What boxes say their needs on, where no word of it has come; else ""."""
        return "" if self.answers.sent or self.answers.strange else self._filter

    def turn(self, limit_s: float) -> None:
        """Listens for so long, and sends what was asked for. While the broker is away it tries to reach it."""
        until_s = time.monotonic() + limit_s
        try:
            if self._lost:
                self.__enter__()
            self._lost = False
            self._turn(until_s)
        except EdgedError as error:
            if error.fault.code != "broker":
                raise
            self._lost = True
            time.sleep(max(0.0, until_s - time.monotonic()))

    def _turn(self, until_s: float) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            self._connection.turn(left_s)
            pieces = self.answers.due(time.monotonic())
            self._connection.put(
                (Put(self._ota.blob(blob.sha256), payload, retain=False) for blob, payload in pieces), _confirmed
            )

    def _hear(self, heard: Heard) -> None:
        levels = heard.topic.rsplit("/", 2)
        if not heard.retained and is_name(levels[-2]):
            self.answers.asked(heard.payload, time.monotonic())


class Following:
    """`run` until every box has its verdict. Lost connections are made again."""

    def __init__(
        self,
        mqtt: schema.Mqtt,
        want: Want,
        counts: Counts,
        show: Callable[[Outcome], None],
        *,
        online: Container[str] = (),
        note: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """`online`: boxes that were so when the push began; one that goes is waited for, a while.

        `note` is told of lost connections, and of a right that seems to be missing.
        """
        self._mqtt: Final = mqtt
        self._want: Final = want
        self._counts: Final = counts
        self._show: Final = show
        self._note: Final = note
        self._absences: Final = Absences(online, _GRACE_S)
        self._patience: Final = Patience(_PATIENCE_S)
        self._warned = False

    def run(self, wait_s: float | None, server: Server | None = None) -> Outcome:
        """The outcome when nothing is open any more, or after `wait_s`. Raises EdgedError `broker`.

        A `server` answers boxes meanwhile.
        """
        began_s = time.monotonic()
        until_s = math.inf if wait_s is None else began_s + wait_s
        with Broker(self._mqtt, self._counts) as broker:
            fleet = broker.read_patiently(self._want.model)
            while True:
                now_s = time.monotonic()
                found = outcome(fleet, self._want, self._absences.brief(fleet, now_s))
                found = self._patience.settle(found, now_s)
                self._show(found)
                if server is not None and now_s > began_s + _DEAF_S:
                    self._look_at(server, found)
                left_s = until_s - time.monotonic()
                if not found.open or left_s <= 0:
                    return found
                try:
                    if server is not None:
                        server.turn(min(_LOOK_S, left_s))
                    broker.wait(min(_LOOK_S, left_s) if server is None else _BESIDE_S)
                    fleet = broker.now()
                except Lost:
                    self._note(LOST)
                    fleet = broker.read_patiently(self._want.model)
                    self._note(BACK)

    def _look_at(self, server: Server, found: Outcome) -> None:
        """Says once that nothing comes of what boxes lack, though some wait for pieces."""
        if server.deaf and not self._warned and any(one.code == "no_blob" for one in found.lines):
            self._warned = True
            self._note(_DEAF % server.deaf)


def _confirmed(put: Put, refusal: str) -> None:
    if refusal:
        raise EdgedError("forbidden", f"the broker refuses {put.topic}: {refusal}", "Check the broker's ACL.")
