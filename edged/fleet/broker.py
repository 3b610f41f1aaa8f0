"""A command's connection to the fleet's broker: reads the fleet, and lays orders down so that they are seen there."""

from __future__ import annotations

import secrets
import time
from types import TracebackType
from typing import Final, Self

from edged.config.schema import Mqtt
from edged.errors import EdgedError
from edged.fleet.census import Census
from edged.fleet.view import Counts, Fleet
from edged.transports.mqtt.retained import Heard, Lost, Put, Retained

_TRIES: Final = 3
_OLD_S: Final = 10.0
_ATTEMPTS: Final = 6
_PAUSES_S: Final = (1, 2, 5, 10, 30, 60)  # between attempts to reach a broker that was there before


class Broker:
    """One connection at a time. What it raises when the connection ends is retained.py's Lost, an EdgedError."""

    def __init__(self, settings: Mqtt, counts: Counts | None = None) -> None:
        """`counts` says which orders enough of the deploy keys have signed; without it nobody can tell."""
        self.base: Final = settings.base
        self._census: Final = Census(settings.base, counts)
        self._seen: dict[str, bytes] = {}
        self._used = False
        self._model = "+"
        self._read_s = 0.0
        # Two with one client id would evict each other; process ids are the same in every container.
        self._connection: Final = Retained(settings, f"edged-fleet-{secrets.token_hex(4)}", self._hear)

    def __enter__(self) -> Self:
        self._connection.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def read(self, model: str = "+") -> Fleet:
        """The fleet: all boxes, and of them and of the orders this model, or all. On a connection of its own: brokers
        send what is retained to a new subscription alone.
        """
        if self._used:
            self._connection.connect()
        self._used, self._model = True, model
        fleet = self._census.take(self._connection, model)
        self._read_s = time.monotonic()
        return fleet

    def read_patiently(self, model: str = "+") -> Fleet:
        """The same, for whoever has begun something: a broker may take a minute to restart. Raises EdgedError."""
        for attempt in range(_ATTEMPTS):
            try:
                if attempt:
                    self.again(attempt - 1)
                return self.read(model)
            except EdgedError as error:
                if error.fault.code != "broker" or attempt == _ATTEMPTS - 1:
                    raise
        raise Lost

    def now(self) -> Fleet:
        """The fleet as it was read last, and what has come since; of a large one, which is not told of everything, what
        was read in the last ten seconds, and all orders since.
        """
        if not self._census.live and time.monotonic() > self._read_s + _OLD_S:
            return self.read(self._model)
        return self._census.fleet

    def bring(self, topic: str, payload: bytes) -> None:
        """Has `payload` kept there, and returns when it was seen there. Raises EdgedError `broker` when it was not."""
        for _ in range(_TRIES):
            self._connection.put([Put(topic, payload)], self._confirmed)
            self._seen.pop(topic, None)
            self._connection.look([topic])
            if self._seen.get(topic) == payload:
                return
        raise EdgedError(
            "broker", f"the broker took {topic} and does not have it", "Look at its ACL, and its limit for messages."
        )

    def wait(self, limit_s: float) -> None:
        """Lets so much time pass, and keeps the connection alive."""
        until_s = time.monotonic() + limit_s
        while (left_s := until_s - time.monotonic()) > 0:
            self._connection.turn(min(left_s, 1.0))

    def again(self, attempt: int) -> None:
        """Connects anew after a pause that grows with `attempt`. Raises EdgedError `broker`."""
        self._connection.close()
        time.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
        self._connection.connect()
        self._used = False

    def _hear(self, heard: Heard) -> None:
        self._census.hear(heard)
        if heard.retained:  # a copy that comes live is no proof that it stays
            self._seen[heard.topic] = heard.payload

    @staticmethod
    def _confirmed(put: Put, refusal: str) -> None:
        if refusal:
            raise EdgedError("broker", f"the broker refuses {put.topic}: {refusal}", "Look at its ACL.")
