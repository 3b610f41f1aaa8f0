"""One push from its folder to the order on the broker. Run again it finds what is there and adds what is missing."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from edged.config import schema
from edged.delivery.documents import Want
from edged.delivery.trust import Anchored
from edged.fleet import ordering, terms
from edged.fleet.broker import Broker
from edged.fleet.ordering import Sign
from edged.fleet.parcel import Parcel
from edged.fleet.shipment import Shipment, check
from edged.fleet.terms import Terms
from edged.fleet.upload import Progress, Sent, Upload
from edged.fleet.view import Counts, Fleet
from edged.topics import Ota
from edged.transports.mqtt.retained import Heard, Lost, Retained

_UPDATES_S: Final = 0.1  # for what has come meanwhile and was not read


class Pushed(msgspec.Struct, frozen=True):
    """`want` is in force; `new`: it was made by this push. `sent` None: no pieces are kept (they are served).

    `online`: the boxes that were so when it began.
    """

    want: Want
    new: bool
    sent: Sent | None
    online: frozenset[str] = frozenset()


class Push:
    """`versions` are the trust documents by number, `anchored` the newest; `sign` adds the deploy keys' signatures."""

    def __init__(
        self,
        mqtt: schema.Mqtt,
        parcel: Parcel,
        versions: Mapping[int, bytes],
        anchored: Anchored,
        sign: Sign,
        counts: Counts,
        *,
        rate: float = 0.0,
    ) -> None:
        """`counts` says which orders boxes follow; `rate`: at most so many messages a second, 0 for no limit."""
        self._mqtt: Final = mqtt
        self._ota: Final = Ota(mqtt.base)
        self._parcel: Final = parcel
        self._model: Final = parcel.release.model
        self._versions: Final = versions
        self._anchored: Final = anchored
        self._sign: Final = sign
        self._counts: Final = counts
        self._rate: Final = rate

    def run(
        self,
        asked: Terms,
        say: Callable[[Progress], None],
        note: Callable[[str], None] = lambda _text: None,
        *,
        keep: bool = True,
    ) -> Pushed:
        """Brings everything, in its order, and looks that it is there. `keep` False: all but the pieces.

        `say` is told how far it is, `note` of lost connections.

        Raises EdgedError: what `check` does before anything is sent; `broker`, `too_large`, `forbidden` with what is in
        the way.
        """
        check(self._parcel, self._anchored, _now_ms())
        upload = Upload(self._connection, say, note)
        try:
            with Broker(self._mqtt, self._counts) as broker:
                fleet = broker.read_patiently(self._model)
                there = terms.in_force(fleet, self._wanted(asked, fleet), _now_ms())
                lives_s = asked.lives_s if there is None else (there.expires - _now_ms()) / 1000
                upload.connect()
                shipment = Shipment(upload, self._ota, self._versions, self._anchored)
                shipment.trust()
                sent = shipment.blobs(self._parcel, lives_s) if keep else None
                shipment.release(self._parcel)
                pushed = self._order(asked, self._again(broker), shipment, sent)
                online = frozenset(box.name for box in fleet.boxes if box.online)
                return msgspec.structs.replace(pushed, online=online)
        finally:
            upload.close()

    def ship(self, lives_s: float, say: Callable[[Progress], None]) -> Sent:
        """Brings everything but an order. Raises what `run` does."""
        check(self._parcel, self._anchored, _now_ms())
        upload = Upload(self._connection, say)
        try:
            upload.connect()
            shipment = Shipment(upload, self._ota, self._versions, self._anchored)
            shipment.trust()
            sent = shipment.blobs(self._parcel, lives_s)
            shipment.release(self._parcel)
            return sent
        finally:
            upload.close()

    def _order(self, asked: Terms, fleet: Fleet, shipment: Shipment, sent: Sent | None) -> Pushed:
        want = self._wanted(asked, fleet)
        there = terms.in_force(fleet, want, _now_ms())
        if there is not None:
            return Pushed(there, new=False, sent=sent)
        placed, undo = ordering.draw(fleet, want, _now_ms(), asked.lives_s)
        ordering.publish(self._ota, placed, undo, self._sign, shipment.bring)
        return Pushed(placed, new=True, sent=sent)

    def _again(self, broker: Broker) -> Fleet:
        """The fleet after the upload, which may have taken long: others may have pushed meanwhile."""
        try:
            broker.wait(_UPDATES_S)
            return broker.now()
        except Lost:
            return broker.read_patiently(self._model)

    def _wanted(self, asked: Terms, fleet: Fleet) -> Want:
        return asked.want(self._parcel, self._anchored.trust.epoch, fleet)

    def _connection(self, hear: Callable[[Heard], None]) -> Retained:
        return _connection(self._mqtt, hear, self._rate)


def publish_trust(mqtt: schema.Mqtt, versions: Mapping[int, bytes], anchored: Anchored) -> None:
    """Brings the trust documents alone, and looks that they are there: a ban or a lost key waits for no push.

    Raises EdgedError `broker`, `forbidden`, `seq_conflict`, `no_trust`.
    """
    upload = Upload(lambda hear: _connection(mqtt, hear, 0.0), lambda _progress: None)
    try:
        upload.connect()
        Shipment(upload, Ota(mqtt.base), versions, anchored).trust()
    finally:
        upload.close()


def _connection(mqtt: schema.Mqtt, hear: Callable[[Heard], None], rate: float) -> Retained:
    # Two with one client id would evict each other; process ids are the same in every container.
    return Retained(mqtt, f"edged-push-{secrets.token_hex(4)}", hear, rate=rate)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
