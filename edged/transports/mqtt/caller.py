"""An operator's way to a broker: the first that answers, in the version that it speaks. Blocking."""

from __future__ import annotations

from typing import Final

from edged.config import schema
from edged.config.addresses import Broker
from edged.errors import EdgedError
from edged.transports.mqtt.dialer import Dialer
from edged.transports.mqtt.outbox import MAX_PACKET
from edged.transports.mqtt.packets import Greeting
from edged.transports.mqtt.versions import Versions
from edged.transports.mqtt.visit import Take, Visit

_ATTEMPTS: Final = 3  # a single close may be anything; the third is made with 3.1.1 at the latest
_RECEIVE_MAXIMUM: Final = 20


class Caller:
    """Makes connections with a clean session. `take(topic, payload, retained)` gets every message."""

    def __init__(self, settings: schema.Mqtt, client_id: str, take: Take) -> None:
        self._dialer: Final = Dialer(settings, client_id, 0, MAX_PACKET, _RECEIVE_MAXIMUM)
        self._versions: Final = {broker: Versions(settings.version) for broker in self._dialer.brokers}
        self._take: Final = take

    def call(self) -> tuple[Visit, Greeting]:
        """A connection and what the broker said first. Raises EdgedError `broker` with the reason of each broker."""
        whys = []
        for broker in self._dialer.brokers:
            visit, why = self._reach(broker)
            if visit is not None and visit.greeting is not None:
                return visit, visit.greeting
            whys.append(f"{broker.url}: {why}")
        raise EdgedError("broker", "; ".join(whys), "Check --broker, or the url in fleet.yaml.")

    def _reach(self, broker: Broker) -> tuple[Visit | None, str]:
        """A connection to this broker, in the version that it speaks; None with the reason."""
        why, versions = "", self._versions[broker]
        for _ in range(_ATTEMPTS):
            visit = Visit(self._dialer, broker, versions.current, self._take)
            why, how = visit.connect()
            if not why:
                versions.worked()
                return visit, ""
            visit.close()
            if how is None:
                break
            versions.failed(how)
        return None, why
